# embed_files(SOURCES_VAR NAME GLOB...): turns files into a C++ source with
#   std::span<const tornado::EmbeddedFile> tornado::embedded_NAME();
# in the order of their names, and appends it to SOURCES_VAR.
function(embed_files sources_var name)
  file(GLOB inputs CONFIGURE_DEPENDS ${ARGN})
  list(SORT inputs)
  set(output ${CMAKE_BINARY_DIR}/embedded_${name}.cpp)
  set(entries "")
  foreach(input ${inputs})
    file(READ ${input} text)
    get_filename_component(base ${input} NAME)
    string(APPEND entries "    EmbeddedFile{\"${base}\", R\"tornado_embed(${text})tornado_embed\"},\n")
  endforeach()
  string(CONCAT content "#include \"base/embedded_file.hpp\"\n\nnamespace tornado::inline v1 {\n\n"
    "std::span<const EmbeddedFile> embedded_${name}() {\n  static constexpr EmbeddedFile files[] = {\n${entries}  };\n"
    "  return files;\n}\n\n}  // namespace tornado::inline v1\n")
  file(CONFIGURE OUTPUT ${output} CONTENT "${content}" @ONLY)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${inputs})
  set(${sources_var} ${${sources_var}} ${output} PARENT_SCOPE)
endfunction()
