// The registry of environment variables: the only place in Winnow that reads the environment.
// `winnow doctor` prints it.
#pragma once
#include <string>
#include <vector>

namespace winnow {

enum class EnvironmentVariable {
  WinnowCacheDir,        ///< directory of the kernel cache
  WinnowCacheReadOnly,   ///< further directories, read only, separated by ':'
  WinnowCacheBundles,    ///< bundle files of the kernel cache, separated by ':'
  WinnowCacheLimitMb,    ///< size limit of the kernel cache
  WinnowLibcuda,         ///< path of the CUDA driver library
  WinnowNvrtc,           ///< path of libnvrtc
  WinnowCompilerLibrary, ///< path of libwinnow_compiler.so
  WinnowDump,            ///< folder that gets the texts of whatever is prepared
  WinnowEmulatedCode,    ///< folder that keeps what was compiled for the emulator
  WinnowTuned,           ///< files of tuned configurations, separated by ':'
  XdgCacheHome,
  XdgDataHome,
  Home,
  CudaHome,
  CudaPath,
  LdLibraryPath,
  VirtualEnv,
  CudaVisibleDevices,
  NoColor,
};

struct EnvironmentEntry {
  EnvironmentVariable variable;
  const char *name;
  const char *meaning; ///< one line: what it does, and what holds when it is unset
};

/// Every variable that Winnow reads, in a fixed order.
const std::vector<EnvironmentEntry> &environmentRegistry();
/// Value of a variable; empty when unset (an empty value counts as unset).
std::string environmentValue(EnvironmentVariable variable);

/// The pieces of a list of paths, "a:b"; empty ones are left out.
std::vector<std::string> splitPaths(const std::string &list);

} // namespace winnow
