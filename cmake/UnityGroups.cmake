# Compiles a library's sources a few at a time, files of one folder together: a third of the compiler's time, most of
# which goes into headers. For builds made as a whole; `release` and `dev` compile file by file, which proves that each
# includes what it uses. In a group no two files may name something in an unnamed namespace alike; what does so on
# purpose, or says `using namespace`, is listed as ALONE.
function(unity_groups target)
  cmake_parse_arguments(arg "" "SIZE" "SOURCES;ALONE" ${ARGN})
  set(before "")
  foreach(source ${arg_SOURCES})
    if(IS_ABSOLUTE ${source})
      file(RELATIVE_PATH source ${CMAKE_CURRENT_SOURCE_DIR} ${source})
    endif()
    get_filename_component(folder ${source} DIRECTORY)
    if(source IN_LIST arg_ALONE OR folder IN_LIST arg_ALONE)
      continue()
    endif()
    if(NOT folder STREQUAL before)
      set(count 0)
      set(before ${folder})
    endif()
    math(EXPR group "${count} / ${arg_SIZE}")
    math(EXPR count "${count} + 1")
    string(MAKE_C_IDENTIFIER "${folder}_${group}" name)
    set_source_files_properties(${source} PROPERTIES UNITY_GROUP ${name})
  endforeach()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  # A type of a .cpp in a member of a class of the same .cpp: the warning takes it for a header's.
  target_compile_options(${target} PRIVATE -Wno-subobject-linkage)
endfunction()
