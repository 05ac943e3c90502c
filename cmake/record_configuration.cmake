# Records what decided this configuration, in the file that ci/configuration.py compares with the
# next one's inputs. Called last: a configuration that failed leaves no record.

function(vllm_record_configuration)
  if(VLLM_CONFIGURATION)
    configure_file(${VLLM_CONFIGURATION} ${CMAKE_BINARY_DIR}/configuration.json COPYONLY)
  endif()
endfunction()
