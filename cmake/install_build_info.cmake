# Puts build.json into dist-info: which commit and variant this is, for `vllm.__commit__`, the
# audit and the publisher. scikit-build-core names the folder.

function(vllm_install_build_info)
  if(VLLM_BUILD_INFO AND SKBUILD_METADATA_DIR)
    install(FILES ${VLLM_BUILD_INFO} DESTINATION ${SKBUILD_METADATA_DIR} RENAME build.json
            COMPONENT info)
  endif()
endfunction()
