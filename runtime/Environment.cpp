// The table behind Environment.h. A variable that is not listed here is not read anywhere.
#include "runtime/Environment.h"
#include <algorithm>
#include <cstdlib>

namespace winnow {

const std::vector<EnvironmentEntry> &environmentRegistry() {
  using V = EnvironmentVariable;
  static const auto &entries = *new std::vector<EnvironmentEntry>{
      // never destroyed: see Spec.cpp
      {V::WinnowCacheDir, "WINNOW_CACHE_DIR",
       "directory of the kernel cache (unset: $XDG_CACHE_HOME/winnow, else $HOME/.cache/winnow)"},
      {V::WinnowCacheReadOnly, "WINNOW_CACHE_READONLY",
       "further cache directories, read only, separated by ':' (unset: none)"},
      {V::WinnowCacheBundles, "WINNOW_CACHE_BUNDLES",
       "bundles made by `winnow cache export`, read only, separated by ':' (unset: none)"},
      {V::WinnowCacheLimitMb, "WINNOW_CACHE_LIMIT_MB",
       "size limit of the kernel cache in MB (unset: 1024)"},
      {V::WinnowLibcuda, "WINNOW_LIBCUDA",
       "path of the CUDA driver library (unset: libcuda.so.1 of the loader)"},
      {V::WinnowNvrtc, "WINNOW_NVRTC",
       "path of libnvrtc (unset: loader path, CUDA toolkit, Python packages)"},
      {V::WinnowCompilerLibrary, "WINNOW_COMPILER_LIBRARY",
       "path of libwinnow_compiler.so, for hosts of the C API (unset: beside libwinnow.so, then "
       "the "
       "loader path)"},
      {V::WinnowDump, "WINNOW_DUMP",
       "folder that gets select, tile, CUDA, PTX and SASS text of whatever is prepared (unset: "
       "none)"},
      {V::WinnowEmulatedCode, "WINNOW_EMULATED_CODE",
       "folder that keeps, for a week, kernels as they were compiled for the emulator (unset: "
       "none)"},
      {V::WinnowTuned, "WINNOW_TUNED",
       "files of tuned configurations beside the shipped ones, separated by ':' (unset: the user's "
       "own alone)"},
      {V::XdgCacheHome, "XDG_CACHE_HOME", "base of user caches (unset: $HOME/.cache)"},
      {V::XdgDataHome, "XDG_DATA_HOME",
       "base of user data: winnow/tuned.jsonl holds tuned configurations (unset: "
       "$HOME/.local/share)"},
      {V::Home, "HOME", "home directory (unset: kernels are cached in memory only)"},
      {V::CudaHome, "CUDA_HOME",
       "CUDA toolkit, searched for libnvrtc (unset: CUDA_PATH, /usr/local/cuda)"},
      {V::CudaPath, "CUDA_PATH", "as CUDA_HOME"},
      {V::LdLibraryPath, "LD_LIBRARY_PATH",
       "read by the system's loader when libraries are opened by name"},
      {V::VirtualEnv, "VIRTUAL_ENV", "Python environment, searched for libnvrtc"},
      {V::CudaVisibleDevices, "CUDA_VISIBLE_DEVICES",
       "read by the CUDA driver: which GPUs this process sees"},
      {V::NoColor, "NO_COLOR", "any value: no colour on terminals"},
  };
  return entries;
}

std::string environmentValue(EnvironmentVariable variable) {
  for (const EnvironmentEntry &entry : environmentRegistry())
    if (entry.variable == variable) {
      // A program that runs with more rights than its caller takes nothing from its environment.
      const char *value = ::secure_getenv(entry.name);
      return value ? value : "";
    }
  return "";
}

std::vector<std::string> splitPaths(const std::string &list) {
  std::vector<std::string> paths;
  for (size_t begin = 0; begin < list.size();) {
    size_t end = std::min(list.find(':', begin), list.size());
    if (end > begin)
      paths.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return paths;
}

} // namespace winnow
