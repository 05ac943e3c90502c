# What a configuration can be told. `python -m ci build` and backend/ pass these; ci/native.py
# computes those that depend on ci/matrix.toml.
#
# File names in this folder: a file is named by the verb of the one function that it defines;
# zig-toolchain.cmake is the release's toolchain file and nvrtcc.py a compiler.

function(vllm_read_options)
  set(VLLM_TARGET_DEVICE "cuda" CACHE STRING "cuda, cpu or empty (no native code)")
  set(VLLM_VARIANTS "" CACHE STRING "CUDA variants to build device code for: cu118;cu121")
  # For each of them VLLM_<variant>_COMPILERS, ("121;129"), and for each of these, with
  # VLLM_<variant>_<compiler> before it: _ARCHS ("80;90a", a cubin each), _PTX ("90"), and _TOOLKIT, a
  # folder of NVIDIA's wheels with NVRTC, or _NVCC and _NVCC_WORDS, a file that changes when another
  # nvcc lies at that path.
  set(VLLM_BUILD_INFO "" CACHE FILEPATH "JSON that becomes dist-info/build.json")
  set(VLLM_PREBUILT "" CACHE PATH "folder with native files to install instead of compiling")
  set(VLLM_DEVICE_CODE "" CACHE PATH
      "device code of the variants, as another configuration has compiled it")
  set(VLLM_CCACHE "" CACHE FILEPATH "ccache to compile through; a release does without")
  set(VLLM_CCACHE_LOG "" CACHE FILEPATH "where ccache writes what it did")
  set(VLLM_JOBS "" CACHE STRING "compilers at once, of host and device code together")
  set(VLLM_CONFIGURATION "" CACHE FILEPATH "JSON of what decides a configuration, to be recorded")
  option(VLLM_WARNINGS_AS_ERRORS "on in a release, whose compilers are pinned" OFF)
  option(VLLM_DEBUG_SYMBOLS "on in a release: keep them in a file beside the library" OFF)

  set(devices cuda cpu empty)
  if(NOT VLLM_TARGET_DEVICE IN_LIST devices)
    message(FATAL_ERROR
      "VLLM_TARGET_DEVICE is \"${VLLM_TARGET_DEVICE}\"; use one of: cuda, cpu, empty")
  endif()
  if(VLLM_JOBS)
    # A pool holds for every ninja: also for the one that an editable install starts on import.
    set_property(GLOBAL PROPERTY JOB_POOLS jobs=${VLLM_JOBS})
    set(CMAKE_JOB_POOL_COMPILE jobs PARENT_SCOPE)
    set(CMAKE_JOB_POOL_LINK jobs PARENT_SCOPE)
  endif()

  if(VLLM_TARGET_DEVICE STREQUAL "cuda" AND NOT VLLM_VARIANTS AND NOT VLLM_PREBUILT)
    message(FATAL_ERROR
      "VLLM_TARGET_DEVICE is cuda, but VLLM_VARIANTS names no CUDA to build for.\n"
      "Build through Python, which finds one: pip install . (or python -m ci build for a release)")
  endif()
endfunction()
