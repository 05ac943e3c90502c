# A release's debug symbols: _C.debug beside the library, to be published under its build-id.
#
# Except for the build-id, the library itself is unchanged: -g does not change instructions, and
# cmake/link_twice.py links the library without symbols, then the same objects with them.

function(vllm_keep_debug_symbols target)
  get_filename_component(zig ${VLLM_ZIG} DIRECTORY)
  target_compile_options(${target} PRIVATE
    # DWARF 4, which every gdb since 2010 reads.
    -g -gdwarf-4
    # No path of the build machine: sources are named csrc/….
    -fdebug-compilation-dir=. -ffile-prefix-map=${zig}/=zig/)
  target_link_options(${target} PRIVATE -Wl,--build-id=sha1)
  set(link_twice ${CMAKE_SOURCE_DIR}/cmake/link_twice.py)
  set_target_properties(${target} PROPERTIES CXX_LINKER_LAUNCHER "${link_twice};_C.debug")
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${link_twice})
endfunction()
