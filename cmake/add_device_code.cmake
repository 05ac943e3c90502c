# Device code: each csrc/kernels/FAMILY/NAME.cu becomes, for every arch of a variant,
# vllm/kernels/<variant>/sm_XX/NAME.cubin, and compute_XX/NAME.ptx for GPUs that come later. The
# name alone is what a launcher loads, so no two families may use the same.
#
# A variant may have several compilers, each for archs of its own. One ninja edge per file and arch;
# the compiler's depfile says which headers it read. What was made for an arch is a component of its
# own, <variant>-sm_XX, of which a wheel installs those that it is to have.

function(vllm_add_device_code variant)
  # Paths relative to the build folder, where ninja runs the compilers: what __FILE__ or an error
  # message shows is then the same in every checkout.
  file(RELATIVE_PATH csrc ${CMAKE_BINARY_DIR} ${CMAKE_SOURCE_DIR}/csrc)
  if(VLLM_JOBS)
    set(pool JOB_POOL jobs)
  endif()
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/csrc/kernels/*.cu)

  foreach(key IN LISTS VLLM_${variant}_COMPILERS)
    vllm_choose_device_compiler(VLLM_${variant}_${key})
    foreach(arch IN LISTS VLLM_${variant}_${key}_ARCHS)
      vllm_compile_device_code(sm_${arch} cubin)
    endforeach()
    foreach(arch IN LISTS VLLM_${variant}_${key}_PTX)
      vllm_compile_device_code(compute_${arch} ptx)
    endforeach()
  endforeach()
  add_custom_target(kernels_${variant} ALL DEPENDS ${outputs})
endfunction()

# A part of vllm_add_device_code: sets `compiler`, `flags` and `inputs` to what the options that
# begin with `prefix` ask for.
macro(vllm_choose_device_compiler prefix)
  set(flags -std=c++17 -I${csrc})
  if(${prefix}_TOOLKIT AND NOT ${prefix}_NVCC)
    set(nvrtcc ${CMAKE_SOURCE_DIR}/cmake/nvrtcc.py)
    # Relative, as above: ccache compares commands by their words.
    file(RELATIVE_PATH toolkit ${CMAKE_BINARY_DIR} ${${prefix}_TOOLKIT})
    set(compiler ${nvrtcc} --toolkit=${toolkit})
    # The list of pins that the folder was made from: another toolkit, another cubin.
    set(pins ${${prefix}_TOOLKIT}/requirements.txt)
    set(inputs ${nvrtcc} ${pins})
    set(identity CCACHE_EXTRAFILES=${pins})
    # Constants and constexpr functions of plain C++ headers (csrc/params) become device code.
    list(APPEND flags -default-device)
    if(VLLM_WARNINGS_AS_ERRORS)
      list(APPEND flags -Werror)
    endif()
  else()
    set(compiler ${${prefix}_NVCC})
    set(inputs ${compiler} ${${prefix}_NVCC_WORDS})
    # Its words on its build: the nvcc on PATH may be a script that starts another.
    set(identity "CCACHE_COMPILERCHECK=%compiler% --version")
    list(APPEND flags --expt-relaxed-constexpr)  # nvcc's way to -default-device
  endif()
  if(VLLM_CCACHE)
    list(PREPEND compiler ${VLLM_CCACHE_DEVICE} ${identity} ${VLLM_CCACHE})
    list(APPEND flags -c)  # without it ccache takes this for a link; it changes nothing beside -cubin
  endif()
endmacro()

# Depfiles go to ninja as they are: their paths are relative to the build folder already. Else CMake
# runs itself after each compiler to rewrite them, and pip's CMake has another path in each build:
# other commands, for which ninja would compile everything again.
cmake_policy(SET CMP0116 OLD)

# A part of vllm_add_device_code: uses its variables and appends to its `outputs`.
macro(vllm_compile_device_code target form)
  set(folder kernels/${variant}/${target})
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/${folder})
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM name)
    file(RELATIVE_PATH path ${CMAKE_SOURCE_DIR}/csrc ${source})
    set(output ${folder}/${name}.${form})
    add_custom_command(
      OUTPUT ${output}
      COMMAND ${compiler} --gpu-architecture=${target} -${form} ${flags}
              -MD -MF ${output}.d -o ${output} ${csrc}/${path}
      DEPENDS ${source} ${inputs}
      DEPFILE ${output}.d
      ${pool}
      COMMENT "Building CUDA ${variant} ${target}/${name}.${form}"
      VERBATIM)
    install(FILES ${CMAKE_BINARY_DIR}/${output} DESTINATION vllm/${folder}
            COMPONENT ${variant}-${target})
    list(APPEND outputs ${output})
  endforeach()
endmacro()
