// From a request to a program image: the cache first, the compiler on a miss. In a build without
// the compiler only the cache can serve.
#pragma once
#include "compiler/driver/Compile.h"
#include "reference/Reference.h"
#include "runtime/cache/Cache.h"
#include "tools/winnow/ProgramFlags.h"
#include <memory>

namespace winnow {

struct ObtainedProgram {
  std::shared_ptr<const ProgramImage> image;
  bool cacheHit = false;
  double milliseconds = 0; ///< wall time of this request: look-up, or look-up and compilation
};

/// Errors: those of the compiler; Unsupported where the program is not cached and there is no
/// compiler.
Result<ObtainedProgram> obtainProgram(const CompileRequest &request, Cache &cache);

/// Whether kernels can be built; a build without the compiler cannot tell and says yes. Errors: as
/// lowerProgram.
Status isServed(const CompileRequest &request);

/// What a method text, specialised, means, as the axes of the reference. Errors: Usage for a broken
/// text; Unsupported where this build has no compiler to read it, or where the text uses an op that
/// the reference does not know.
Result<reference::Method> readAxes(const std::string &method, const Spec &spec);
/// The first built-in method that selects, where the user names none. Error: Usage.
Result<std::string> selectingMethod(const Spec &spec);
/// What the flags of a command that works on pages say: a request for a paged program of one
/// architecture (none: to be asked of the device), of selectingMethod where none is named. Error:
/// Usage.
Result<CompileRequest> pagedRequest(ProgramFlags &flags);
/// The built-in method that selects nothing: the yardstick of times.
Result<std::string> denseMethod(const Spec &spec);

/// The table of `winnow compile` and step 1 of `winnow run`: a row per kernel.
std::string programTable(const std::vector<ObtainedProgram> &programs);
/// The facts of each kernel, a row per kernel.
std::string factTable(const std::vector<ObtainedProgram> &programs);

} // namespace winnow
