# Compiles host and device code with ccache if VLLM_CCACHE is set. Sets VLLM_CCACHE_HOST and
# VLLM_CCACHE_DEVICE in the caller's scope: the command to prepend to a compiler.
#
# The settings are set by `env`, so that they also apply when ninja is run by hand or by an import.
# All others, such as remote storage, are the user's.

function(vllm_use_ccache)
  if(VLLM_CCACHE)
    set(settings
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}    # hits from a tree in another folder
      CCACHE_COMPILERCHECK=content          # and from the same compiler on another machine
      CCACHE_STATSLOG=${VLLM_CCACHE_LOG})   # hits of this build, printed by the backend
    set(VLLM_CCACHE_HOST env ${settings} ${VLLM_CCACHE} PARENT_SCOPE)
    list(APPEND settings
      # Dependencies come from the depfile, not from the preprocessor: its output for device code is
      # the host's view, so an edit under #if __CUDA_ARCH__ would be a false hit.
      CCACHE_DEPEND=1
      CCACHE_COMPILERTYPE=nvcc)             # nvrtcc.py has nvcc's options
    set(VLLM_CCACHE_DEVICE env ${settings} PARENT_SCOPE)
  endif()
endfunction()
