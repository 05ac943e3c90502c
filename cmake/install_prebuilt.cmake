# Installs native files that were compiled earlier from the same sources (design D5). The caller
# that sets VLLM_PREBUILT has verified their hashes. `vllm/` in it is laid out as in a wheel.

function(vllm_install_prebuilt)
  install(PROGRAMS ${VLLM_PREBUILT}/vllm/_C.abi3.so DESTINATION vllm COMPONENT host)
  foreach(variant IN LISTS VLLM_VARIANTS)
    vllm_install_device_code(${VLLM_PREBUILT}/vllm/kernels ${variant})
  endforeach()
endfunction()

# Installs device code from <folder>/<variant>/sm_XX/NAME.cubin, with the components of
# vllm_add_device_code.
function(vllm_install_device_code folder variant)
  file(GLOB targets RELATIVE ${folder}/${variant} ${folder}/${variant}/*)
  foreach(target IN LISTS targets)
    install(DIRECTORY ${folder}/${variant}/${target} DESTINATION vllm/kernels/${variant}
            COMPONENT ${variant}-${target}
            FILES_MATCHING PATTERN *.cubin PATTERN *.ptx)
  endforeach()
endfunction()
