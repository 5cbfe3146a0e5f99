// See Dump.h.
#include "runtime/device/Dump.h"
#include "runtime/Environment.h"
#include "runtime/cache/Files.h"
#include <atomic>
#include <cstdio>
#include <fmt/format.h>

namespace winnow {
namespace {

void tellOnce(const std::string &path, int code) {
  static std::atomic<bool> told{false};
  if (!told.exchange(true))
    std::fputs(
        fmt::format("winnow: WINNOW_DUMP: cannot write {}: {}\n", path, fileProblem(code)).c_str(),
        stderr);
}

} // namespace

std::string dumpFolder(const ProgramImage &image) {
  const std::string base = environmentValue(EnvironmentVariable::WinnowDump);
  if (base.empty())
    return "";
  std::string path =
      fmt::format("{}/{}-{}-{}", base, image.method, image.arch, image.key.substr(0, 12));
  if (const int code = makeDirectories(path)) {
    tellOnce(path, code);
    return "";
  }
  return path;
}

void dumpFile(const std::string &folder, const std::string &name, std::string_view bytes) {
  const std::string path = folder + "/" + name;
  if (const int code = publish(systemFiles(), path, bytes, 0600))
    tellOnce(path, code);
}

void dumpImage(const ProgramImage &image) {
  const std::string folder = dumpFolder(image);
  if (folder.empty())
    return;
  dumpFile(folder, "program.txt",
           fmt::format("method {}\narch {}\nspec {}\nconfig {}\nkey {}\n", image.method, image.arch,
                       image.spec.text(), image.config.text(), image.key));
  for (const Kernel &kernel : image.kernels) {
    dumpFile(folder, kernel.name + ".cu", kernel.source);
    const bool isCubin = kernel.cubin.compare(0, 4, "\177ELF") == 0;
    dumpFile(folder, kernel.name + (isCubin ? ".cubin" : ".ptx"), kernel.cubin);
  }
}

} // namespace winnow
