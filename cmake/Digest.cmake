# Run as a script: writes OUTPUT, a C++ file whose SYMBOL(), which HEADER declares, is the digest of FILES (a list separated by '|').
# Only contents count, in the order of the file names: the same sources give the same digest in any folder.
string(REPLACE "|" ";" files "${FILES}")
set(all "")
foreach(file IN LISTS files)
  file(SHA256 ${file} digest)
  get_filename_component(name ${file} NAME)
  list(APPEND all "${name}:${digest}")
endforeach()
list(SORT all)
string(SHA256 digest "${all}")
file(WRITE ${OUTPUT} "#include \"${HEADER}\"\nconst char *winnow::${SYMBOL}() { return \"${digest}\"; }\n")
