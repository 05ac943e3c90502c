# Records the inputs of this configuration, which ci/configuration.py compares with those of the
# next one. Called last, so that a failed configuration leaves no record.

function(vllm_record_configuration)
  if(VLLM_CONFIGURATION)
    configure_file(${VLLM_CONFIGURATION} ${CMAKE_BINARY_DIR}/configuration.json COPYONLY)
  endif()
endfunction()
