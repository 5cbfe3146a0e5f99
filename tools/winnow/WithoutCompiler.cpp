// Compile.h for a build without the compiler: the same functions, each saying what is missing. What
// remains works: run a program image or a cached program, doctor, cache.
#include "compiler/driver/CompileHook.h"
#include "reference/methods/MethodAxes.h"

namespace winnow {
namespace {

tl::unexpected<Error> missing(const char *what) {
  return fail(ErrorKind::Unsupported, std::string("this build has no compiler and ") + what);
}

} // namespace

Result<std::pair<ProgramImage, std::vector<StageText>>> lowerProgram(const CompileRequest &) {
  return missing("cannot lower a method");
}
Result<ProgramImage> compileProgram(const CompileRequest &) {
  return missing("runs only programs from the cache or by --image; this one is in neither");
}
Result<KeyIngredients> programIngredients(const CompileRequest &) {
  return missing("knows no cache keys");
}
Result<std::string> programKey(const CompileRequest &) { return missing("knows no cache keys"); }
Result<std::map<std::string, std::string>> parameterDefaults(const std::string &) {
  return missing("does not know the parameters of methods");
}
CompileHook compilerHook(const std::string &) { return {}; }
std::string generatorIdentity() { return {}; }
void setOutOfMemoryHandler(void (*)()) {}
bool hasCompiler() { return false; }
std::vector<MethodInfo> builtinMethods() { return {}; }
Result<MethodInfo> loadMethod(const std::string &) { return missing("knows no method texts"); }
Result<reference::Method> axesOfText(const std::string &, const std::string &, const Spec &) {
  return missing("cannot read what a method means; results cannot be compared with the reference");
}
Result<std::map<std::string, std::string>> methodParameters(const std::string &,
                                                            const std::string &) {
  return missing("cannot read the parameters of a method");
}

} // namespace winnow
