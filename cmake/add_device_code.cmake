# Device code: each csrc/kernels/NAME.cu becomes, for every arch of a variant,
# vllm/kernels/<variant>/sm_XX/NAME.cubin, and compute_XX/NAME.ptx for GPUs that come later.
# One ninja edge per file and arch; the compiler's depfile says which headers it read.

function(vllm_add_device_code variant)
  # Paths relative to the build folder, where ninja runs the compilers: what __FILE__ or an error
  # message shows is then the same in every checkout.
  file(RELATIVE_PATH csrc ${CMAKE_BINARY_DIR} ${CMAKE_SOURCE_DIR}/csrc)
  set(flags -std=c++17 -I${csrc})
  if(VLLM_${variant}_TOOLKIT)
    set(nvrtcc ${CMAKE_SOURCE_DIR}/cmake/nvrtcc.py)
    set(compiler ${nvrtcc} --toolkit=${VLLM_${variant}_TOOLKIT})
    # The list of pins that the folder was made from: another toolkit, another cubin.
    set(inputs ${nvrtcc} ${VLLM_${variant}_TOOLKIT}/requirements.txt)
    # Constants and constexpr functions of plain C++ headers (params.h) become device code.
    list(APPEND flags -default-device)
    if(VLLM_WARNINGS_AS_ERRORS)
      list(APPEND flags -Werror)
    endif()
  else()
    set(compiler ${VLLM_${variant}_NVCC})
    set(inputs ${compiler})
    list(APPEND flags --expt-relaxed-constexpr)  # nvcc's way to -default-device
  endif()

  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/csrc/kernels/*.cu)
  foreach(arch IN LISTS VLLM_${variant}_ARCHS)
    vllm_compile_device_code(sm_${arch} cubin)
  endforeach()
  foreach(arch IN LISTS VLLM_${variant}_PTX)
    vllm_compile_device_code(compute_${arch} ptx)
  endforeach()
  add_custom_target(kernels_${variant} ALL DEPENDS ${outputs})
endfunction()

# A part of vllm_add_device_code: uses its variables and appends to its `outputs`.
macro(vllm_compile_device_code target form)
  set(folder kernels/${variant}/${target})
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/${folder})
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM name)
    set(output ${folder}/${name}.${form})
    add_custom_command(
      OUTPUT ${output}
      COMMAND ${compiler} --gpu-architecture=${target} -${form} ${flags}
              -MD -MF ${output}.d -o ${output} ${csrc}/kernels/${name}.cu
      DEPENDS ${source} ${inputs}
      DEPFILE ${output}.d
      COMMENT "Building CUDA ${variant} ${target}/${name}.${form}"
      VERBATIM)
    install(FILES ${CMAKE_BINARY_DIR}/${output} DESTINATION vllm/${folder} COMPONENT ${variant})
    list(APPEND outputs ${output})
  endforeach()
endmacro()
