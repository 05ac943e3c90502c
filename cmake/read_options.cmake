# The options of a configuration. `python -m ci build` and backend/ pass them; ci/native.py computes
# those that depend on ci/matrix.toml.
#
# File names in this folder: a file is named after the function that it defines; zig-toolchain.cmake
# is the release's toolchain file, nvrtcc.py a compiler and link_twice.py a linker.

function(vllm_read_options)
  set(VLLM_TARGET_DEVICE "cuda" CACHE STRING "cuda, cpu or empty (no native code)")
  set(VLLM_VARIANTS "" CACHE STRING "CUDA variants to build device code for: cu118;cu121")
  # For each variant: VLLM_<variant>_COMPILERS ("121;129"). For each of its compilers, with the
  # prefix VLLM_<variant>_<compiler>: _ARCHS ("80;90a", a cubin each), _PTX ("90"), and either
  # _TOOLKIT, a folder with NVRTC from NVIDIA's wheels, or _NVCC and _NVCC_WORDS, a file that
  # changes when the nvcc at that path does.
  set(VLLM_BUILD_INFO "" CACHE FILEPATH "JSON that becomes dist-info/build.json")
  set(VLLM_PREBUILT "" CACHE PATH "folder with native files to install instead of compiling")
  set(VLLM_DEVICE_CODE "" CACHE PATH
      "device code of the variants, compiled by another configuration")
  set(VLLM_CCACHE "" CACHE FILEPATH "ccache to use; not in a release")
  set(VLLM_CCACHE_LOG "" CACHE FILEPATH "log of ccache's hits and misses")
  set(VLLM_JOBS "" CACHE STRING "concurrent compilers, of host and device code together")
  set(VLLM_CONFIGURATION "" CACHE FILEPATH "JSON with the inputs of the configuration, to be recorded")
  option(VLLM_WARNINGS_AS_ERRORS "on in a release, whose compilers are pinned" OFF)
  option(VLLM_DEBUG_SYMBOLS "on in a release: keep them in a file beside the library" OFF)

  set(devices cuda cpu empty)
  if(NOT VLLM_TARGET_DEVICE IN_LIST devices)
    message(FATAL_ERROR
      "VLLM_TARGET_DEVICE is \"${VLLM_TARGET_DEVICE}\"; use one of: cuda, cpu, empty")
  endif()
  if(VLLM_JOBS)
    # A job pool also limits the ninja that an editable install starts on import.
    set_property(GLOBAL PROPERTY JOB_POOLS jobs=${VLLM_JOBS})
    set(CMAKE_JOB_POOL_COMPILE jobs PARENT_SCOPE)
    set(CMAKE_JOB_POOL_LINK jobs PARENT_SCOPE)
  endif()

  if(VLLM_TARGET_DEVICE STREQUAL "cuda" AND NOT VLLM_VARIANTS AND NOT VLLM_PREBUILT)
    message(FATAL_ERROR "VLLM_TARGET_DEVICE is cuda, but VLLM_VARIANTS is empty.\n"
      "Build with Python, which sets it: pip install . (or python -m ci build for a release)")
  endif()
endfunction()
