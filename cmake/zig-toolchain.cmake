# The release's compiler: clang and libc++ as packed by zig, against the symbols of an old glibc
# (design D3), so that `manylinux1` is true wherever the wheel was built.

set(VLLM_ZIG "" CACHE FILEPATH "zig of the ziglang wheel")
set(VLLM_ZIG_TARGET "" CACHE STRING "zig_target of a platform in ci/matrix.toml")
# CMake's own checks configure a project that has no cache.
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES VLLM_ZIG VLLM_ZIG_TARGET)

set(CMAKE_SYSTEM_NAME Linux)
string(REGEX MATCH "^[^-]+" CMAKE_SYSTEM_PROCESSOR "${VLLM_ZIG_TARGET}")
set(CMAKE_CXX_COMPILER ${VLLM_ZIG} c++)
# Without a target zig would tune for the machine that it runs on. Said this way, CMake also
# identifies the compiler without linking a program.
set(CMAKE_CXX_COMPILER_TARGET ${VLLM_ZIG_TARGET})
# The compiler is pinned, so trying it out tells nothing. It would link a program in another mode
# than the library's, for which zig first builds a libc++ of that mode: a minute each.
set(CMAKE_CXX_COMPILER_WORKS TRUE)
set(CMAKE_CXX_ABI_COMPILED TRUE)
