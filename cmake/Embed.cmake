# Run as a script: writes OUTPUT, a C++ file that defines `const std::vector<EmbeddedFile> SYMBOL` with the bytes of FILES
# (a list separated by '|', which may be empty), each under its file name. HEADER declares SYMBOL.
set(text "// Made from files of the source tree by cmake/Embed.cmake.\n#include \"${HEADER}\"\n\nnamespace winnow {\n")
string(REPLACE "|" ";" files "${FILES}")
set(entries "")
set(index 0)
foreach(file IN LISTS files)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}00")  # a zero ends the text for C interfaces
  get_filename_component(name ${file} NAME)
  string(APPEND text "static const unsigned char file${index}[] = {${bytes}};\n")
  string(APPEND entries "      {\"${name}\", {reinterpret_cast<const char *>(file${index}), sizeof(file${index}) - 1}},\n")
  math(EXPR index "${index} + 1")
endforeach()
string(APPEND text "const std::vector<EmbeddedFile> &${SYMBOL}() {\n  static const auto &files = *new std::vector<EmbeddedFile>{ // never destroyed: see Spec.cpp\n${entries}  };\n  return files;\n}\n} // namespace winnow\n")
file(WRITE ${OUTPUT} "${text}")
