# Installs native files that were compiled before from the same sources (design D5). Whoever sets
# VLLM_PREBUILT has checked their hashes: `vllm/` in it is laid out as in a wheel.

function(vllm_install_prebuilt)
  install(PROGRAMS ${VLLM_PREBUILT}/vllm/_C.abi3.so DESTINATION vllm COMPONENT host)
  foreach(variant IN LISTS VLLM_VARIANTS)
    install(DIRECTORY ${VLLM_PREBUILT}/vllm/kernels/${variant} DESTINATION vllm/kernels
            COMPONENT ${variant})
  endforeach()
endfunction()
