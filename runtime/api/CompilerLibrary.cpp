// Finds libwinnow_compiler.so, which has MLIR, LLVM and the CPU target inside, and hands out its
// functions. This library itself stays small; who never compiles never opens the other.
#include "runtime/Environment.h"
#include "runtime/api/Build.h"
#include "runtime/api/HostBoundary.h"
#include "runtime/device/LibraryPath.h"
#include <dlfcn.h>
#include <vector>

namespace winnow {
namespace {

constexpr const char *kName = "libwinnow_compiler.so." WINNOW_SOVERSION,
                     *kBareName = "libwinnow_compiler.so"; ///< in packages without symbolic links

/// Its symbols stay out of the global scope, and all but one inside the library: an LLVM of the
/// host and this one do not see each other (F35), so RTLD_DEEPBIND, under which an allocator of the
/// host's would no longer be found, is not needed.
void *open(const std::string &file) { return dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL); }

tl::unexpected<Error> unusable(const std::string &why) {
  return fail(ErrorKind::Unsupported,
              fmt::format("no compiler library: {}; install libwinnow_compiler.so of this build "
                          "beside libwinnow.so, or name it in WINNOW_COMPILER_LIBRARY",
                          why));
}

/// The folder that this library was loaded from, "" where the loader does not say.
std::string ownFolder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void *>(&winnow_compiler_load), &info) == 0 || !info.dli_fname)
    return "";
  const std::string file = info.dli_fname;
  return file.substr(0, file.rfind('/') + 1);
}

Result<void *> openNamed(const std::string &path) {
  Result<std::string> file = trustedLibrary(path);
  if (!file)
    return unusable(file.error().message);
  void *library = open(*file);
  if (!library)
    return unusable(dlerror());
  return library;
}

/// Beside this library, or where the loader finds it. Who can write this library's folder could
/// replace this library as well, so the file beside it is not looked at (LibraryPath.h).
Result<void *> openInstalled() {
  const std::string folder = ownFolder();
  std::vector<std::string> candidates = {kName};
  if (!folder.empty())
    candidates = {folder + kName, folder + kBareName, kName};
  std::string reason; // the loader's, of a file that is there and cannot be opened
  for (const std::string &candidate : candidates) {
    if (void *library = open(candidate))
      return library;
    const std::string said = dlerror();
    if (reason.empty() || reason.find("No such file") != std::string::npos)
      reason = said;
  }
  return unusable(reason);
}

Result<const winnow_compiler *> load(const std::string &path) {
  WINNOW_TRY(void *library, path.empty() ? openInstalled() : openNamed(path));
  auto entry =
      reinterpret_cast<const winnow_compiler *(*)()>(dlsym(library, "winnow_compiler_entry"));
  if (!entry)
    return unusable("the library that was found has no winnow_compiler_entry");
  const winnow_compiler *compiler = entry();
  Result<winnow_compiler> known = adopt(compiler, "compiler");
  if (!known || std::strcmp(orEmpty(known->build_digest), runtimeDigest()) != 0)
    return unusable("the one that was found belongs to another build of Winnow");
  return compiler;
}

} // namespace
} // namespace winnow

using namespace winnow;

winnow_status winnow_compiler_load(const char *path, const winnow_compiler **compiler) {
  return guarded([&]() -> Status {
    if (!compiler)
      return fail(ErrorKind::Usage, "compiler is null");
    *compiler = nullptr;
    WINNOW_TRY(*compiler,
               load(path ? path : environmentValue(EnvironmentVariable::WinnowCompilerLibrary)));
    return {};
  });
}
