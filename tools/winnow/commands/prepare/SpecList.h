// Lists of programs as JSON: what `winnow prepare` compiles and what a deployment keeps beside its
// model.
#pragma once
#include "compiler/driver/Compile.h"
#include <vector>

namespace winnow {

/// The requests of a JSON text: a list of objects, see help/prepare.txt. An entry without "arch"
/// stands for one request per name in `archs`. Error: Usage, naming the entry by its place.
Result<std::vector<CompileRequest>> readSpecList(const std::string &text,
                                                 const std::vector<std::string> &archs);

} // namespace winnow
