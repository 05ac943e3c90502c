# The release's compiler: clang and libc++ from zig, linked against the symbols of an old glibc
# (design D3), so that the `manylinux1` tag holds wherever the wheel is built.

set(VLLM_ZIG "" CACHE FILEPATH "zig of the ziglang wheel")
set(VLLM_ZIG_TARGET "" CACHE STRING "zig_target of a platform in ci/matrix.toml")
# Passed to CMake's try_compile projects, which have their own cache.
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES VLLM_ZIG VLLM_ZIG_TARGET)

set(CMAKE_SYSTEM_NAME Linux)
string(REGEX MATCH "^[^-]+" CMAKE_SYSTEM_PROCESSOR "${VLLM_ZIG_TARGET}")
set(CMAKE_CXX_COMPILER ${VLLM_ZIG} c++)
# Without a target zig would optimize for the build machine. Set this way, CMake also identifies the
# compiler without linking a program.
set(CMAKE_CXX_COMPILER_TARGET ${VLLM_ZIG_TARGET})
# The compiler is pinned, so CMake's checks of it are unnecessary. They would link programs in other
# modes than the library's, for each of which zig first builds a libc++ for a minute.
set(CMAKE_CXX_COMPILER_WORKS TRUE)
set(CMAKE_CXX_ABI_COMPILED TRUE)
