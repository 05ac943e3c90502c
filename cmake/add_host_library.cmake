# The one host library, vllm/_C.abi3.so: CPU kernels, CUDA launchers and the Python module.
#
# Sources: every .cpp under csrc, except that of csrc/cpu/x86_64 and csrc/cpu/aarch64 only the
# target's is used. There, isa_NAME.cpp is compiled for the instruction set NAME and selected at run
# time; all other files use the baseline of the processor.

function(vllm_add_host_library)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/csrc/*.cpp)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    list(FILTER sources EXCLUDE REGEX "/csrc/cpu/x86_64/")
  else()
    list(FILTER sources EXCLUDE REGEX "/csrc/cpu/aarch64/")
  endif()
  add_library(_C MODULE ${sources})
  target_include_directories(_C PRIVATE ${CMAKE_SOURCE_DIR}/csrc)
  set_target_properties(_C PROPERTIES
    PREFIX "" SUFFIX ".abi3.so"    # how Python finds an extension for every version
    CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden   # PyInit__C is the only exported symbol:
    VISIBILITY_INLINES_HIDDEN ON)  # torch has its own C++ library
  target_compile_options(_C PRIVATE
    -Wall -Wextra $<$<BOOL:${VLLM_WARNINGS_AS_ERRORS}>:-Werror>
    -pthread
    # By default gcc contracts a*b+c to fma, and clang only within an expression. Off, every
    # compiler and instruction set rounds alike, and a kernel uses std::fma or an intrinsic for a
    # single rounding.
    -ffp-contract=off
    # No path of the building machine in __FILE__: two checkouts give the same bits.
    -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=
    # With the linker's --gc-sections, only the used parts of a static C++ library are linked.
    -ffunction-sections -fdata-sections)
  # dl and pthread are separate libraries before glibc 2.34.
  target_link_libraries(_C PRIVATE dl pthread)
  target_link_options(_C PRIVATE
    -Wl,--gc-sections
    -Wl,--version-script=${CMAKE_SOURCE_DIR}/cmake/exports.map
    # Strips symbols. Not by `strip`, whose version would change the bits.
    $<$<CONFIG:Release>:-s>)

  if(VLLM_CCACHE_HOST)
    set_target_properties(_C PROPERTIES CXX_COMPILER_LAUNCHER "${VLLM_CCACHE_HOST}")
  endif()

  set_target_properties(_C PROPERTIES LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/exports.map)

  set(avx2 -mavx2 -mfma -mf16c)
  vllm_compile_for_isa(x86_64/isa_avx2 ${avx2})
  vllm_compile_for_isa(x86_64/isa_avx512 ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # 10 or newer; its intrinsics also need Armv8.2
    vllm_compile_for_isa(aarch64/isa_bf16 -march=armv8.2-a+bf16+fp16fml)
  else()  # zig has -mcpu only, not -march
    vllm_compile_for_isa(aarch64/isa_bf16 -mcpu=generic+bf16+fp16fml)
  endif()

  # It needs the C form of pthread_cleanup_push; the file explains why.
  set_source_files_properties(${CMAKE_SOURCE_DIR}/csrc/runtime/gil.cpp
                              PROPERTIES COMPILE_OPTIONS -fno-exceptions)

  install(TARGETS _C LIBRARY DESTINATION vllm COMPONENT host)
endfunction()

function(vllm_compile_for_isa file)
  set_source_files_properties(${CMAKE_SOURCE_DIR}/csrc/cpu/${file}.cpp
                              PROPERTIES COMPILE_OPTIONS "${ARGN}")
endfunction()
