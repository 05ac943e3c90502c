# Host and device code go through ccache where VLLM_CCACHE names it. Sets in the caller's scope
# VLLM_CCACHE_HOST and VLLM_CCACHE_DEVICE: what to put before a compiler.
#
# `env` carries the settings, so that they also hold when ninja is run by hand or by an import.
# They are read as ccache's own, and the rest is left to the person's configuration, remote storage
# included.

function(vllm_use_ccache)
  if(VLLM_CCACHE)
    set(settings
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}    # a tree in another folder is the same tree
      CCACHE_COMPILERCHECK=content          # and the same compiler on another machine the same
      CCACHE_STATSLOG=${VLLM_CCACHE_LOG})   # what this build hit, which the backend prints
    set(VLLM_CCACHE_HOST env ${settings} ${VLLM_CCACHE} PARENT_SCOPE)
    list(APPEND settings
      # What was read is in the depfile. The preprocessor is never asked: what it says of device
      # code is what the host sees, and an edit below an #if of __CUDA_ARCH__ would be a hit.
      CCACHE_DEPEND=1
      CCACHE_COMPILERTYPE=nvcc)             # nvrtcc.py takes the same options
    set(VLLM_CCACHE_DEVICE env ${settings} PARENT_SCOPE)
  endif()
endfunction()
