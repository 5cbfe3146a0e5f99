// Serves program images from the cache and the compiler.
#include "tools/winnow/commands/prepare/Programs.h"
#include "reference/methods/MethodAxes.h"
#include "runtime/device/Dump.h"
#include "runtime/program/Tunables.h"
#include "tools/winnow/Session.h"
#include <fmt/format.h>

namespace winnow {

/// Without a compiler there are no keys: a cached program is known by what it was made for. One
/// with the wanted tunables is preferred, any other serves.
static std::optional<ProgramImage> findWithoutKey(const CompileRequest &request, Cache &cache) {
  auto serves = [&](const ProgramImage &image) {
    return image.method == request.method && image.arch == request.arch &&
           image.spec.text() == request.spec.text();
  };
  auto isWanted = [&](const ProgramImage &image) {
    for (const Tunable &tunable : tunables())
      if (int asked = tunable.get(request.config); asked != 0 && asked != tunable.get(image.config))
        return false;
    return serves(image);
  };
  std::optional<ProgramImage> wanted = cache.find(isWanted);
  return wanted ? wanted : cache.find(serves);
}

Result<ObtainedProgram> obtainProgram(const CompileRequest &request, Cache &cache) {
  double began = now();
  Result<std::string> key = programKey(request);
  if (!key && key.error().kind != ErrorKind::Unsupported)
    return tl::unexpected(key.error());
  ObtainedProgram program;
  if (key) {
    Result<Cache::Obtained> obtained = cache.obtain(*key, [&] { return compileProgram(request); });
    if (!obtained)
      return tl::unexpected(obtained.error());
    program.image = std::move(obtained->image);
    program.cacheHit = !obtained->built;
  } else {
    std::optional<ProgramImage> cached = findWithoutKey(request, cache);
    if (!cached)
      return tl::unexpected(compileProgram(request).error()); // says what is missing
    program.image = std::make_shared<ProgramImage>(std::move(*cached));
    program.cacheHit = true;
  }
  program.milliseconds = (now() - began) * 1000;
  if (program.cacheHit) // the compiler leaves its own, with the stages before
    dumpImage(*program.image);
  return program;
}

Status isServed(const CompileRequest &request) {
  if (!hasCompiler())
    return {};
  auto lowered = lowerProgram(request);
  return lowered ? Status() : Status(tl::unexpected(lowered.error()));
}

Result<reference::Method> readAxes(const std::string &method, const Spec &spec) {
  WINNOW_TRY(MethodInfo info, loadMethod(method));
  return axesOfText(info.text, info.file, spec);
}

Result<std::string> selectingMethod(const Spec &spec) {
  for (const MethodInfo &candidate : builtinMethods())
    if (Result<reference::Method> axes = readAxes(candidate.name, spec); axes && axes->selects)
      return candidate.name;
  return fail(ErrorKind::Usage, "name the method to measure");
}

Result<CompileRequest> pagedRequest(ProgramFlags &flags) {
  flags.spec.paged = true;
  WINNOW_TRY(CompileRequest request, flags.request());
  if (!flags.arch.empty()) {
    WINNOW_TRY(const std::vector<std::string> archs, flags.architectures());
    if (archs.size() != 1)
      return fail(ErrorKind::Usage, "--arch: one architecture at a time");
  }
  if (request.method.empty()) {
    WINNOW_TRY(request.method, selectingMethod(request.spec));
  }
  return request;
}

Result<std::string> denseMethod(const Spec &spec) {
  Spec plain = spec;
  plain.params.clear();
  for (const MethodInfo &method : builtinMethods())
    if (Result<reference::Method> axes = readAxes(method.name, plain); axes && !axes->selects)
      return method.name;
  return fail(ErrorKind::Unsupported,
              "no built-in method without a selection: nothing to compare times with");
}

std::string programTable(const std::vector<ObtainedProgram> &programs) {
  Table table({"kernel", "arch", "registers", "spill bytes", "shared bytes", "compile", "cache"});
  for (const ObtainedProgram &program : programs)
    for (const Kernel &kernel : program.image->kernels)
      table.add({kernel.name, program.image->arch, std::to_string(kernel.registers),
                 std::to_string(kernel.spillBytes),
                 std::to_string(kernel.sharedBytes + kernel.staticSharedBytes),
                 durationText(kernel.compileMs), program.cacheHit ? "hit" : "miss"});
  return table.text();
}

std::string factTable(const std::vector<ObtainedProgram> &programs) {
  Table table({"kernel", "arch", "facts"});
  for (const ObtainedProgram &program : programs)
    for (const Kernel &kernel : program.image->kernels)
      table.add({kernel.name, program.image->arch, kernel.facts.text()});
  return table.text();
}

} // namespace winnow
