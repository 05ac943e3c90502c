# Device code: each csrc/kernels/FAMILY/NAME.cu becomes, for every arch of a variant,
# vllm/kernels/<variant>/sm_XX/NAME.cubin, and compute_XX/NAME.ptx for future GPUs. A launcher loads
# it by NAME alone, so names must be unique across families.
#
# A variant may have several compilers, each for different archs. There is one ninja edge per file
# and arch; the compiler's depfile lists the headers. The code for an arch is an install component,
# <variant>-sm_XX; a wheel installs a selection of them.

function(vllm_add_device_code variant)
  # Paths are relative to the build folder, where ninja runs the compilers, so that __FILE__ and
  # error messages are the same in every checkout.
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

# Part of vllm_add_device_code: sets `compiler`, `flags` and `inputs` from the options that begin
# with `prefix`.
macro(vllm_choose_device_compiler prefix)
  set(flags -std=c++17 -I${csrc})
  if(${prefix}_TOOLKIT AND NOT ${prefix}_NVCC)
    set(nvrtcc ${CMAKE_SOURCE_DIR}/cmake/nvrtcc.py)
    # Relative, as above: ccache hashes the command line.
    file(RELATIVE_PATH toolkit ${CMAKE_BINARY_DIR} ${${prefix}_TOOLKIT})
    set(compiler ${nvrtcc} --toolkit=${toolkit})
    # The pins that the folder was installed from: cubins depend on them.
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
    # Its --version: the nvcc on PATH may be a script that starts another.
    set(identity "CCACHE_COMPILERCHECK=%compiler% --version")
    list(APPEND flags --expt-relaxed-constexpr)  # nvcc's equivalent of -default-device
  endif()
  if(VLLM_CCACHE)
    list(PREPEND compiler ${VLLM_CCACHE_DEVICE} ${identity} ${VLLM_CCACHE})
    list(APPEND flags -c)  # else ccache takes this for a link; no effect with -cubin
  endif()
endmacro()

# Depfiles are passed to ninja unchanged: their paths are already relative to the build folder.
# Otherwise each command would run CMake to rewrite them, and pip's CMake has another path in each
# build, so that ninja would compile everything again.
cmake_policy(SET CMP0116 OLD)

# Part of vllm_add_device_code: uses its variables and appends to its `outputs`.
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
