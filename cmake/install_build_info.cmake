# Installs build.json in dist-info: the commit and variant, for `vllm.__commit__`, the audit and the
# publisher. scikit-build-core sets the folder.

function(vllm_install_build_info)
  if(VLLM_BUILD_INFO AND SKBUILD_METADATA_DIR)
    install(FILES ${VLLM_BUILD_INFO} DESTINATION ${SKBUILD_METADATA_DIR} RENAME build.json
            COMPONENT info)
  endif()
endfunction()
