// NVRTC, opened at run time: CUDA C++ text to cubin or PTX. Nothing is linked against CUDA; the
// functions used are declared here, since their C interface is stable (NVRTC documentation, CUDA 12
// and 13).
#pragma once
#include "runtime/Error.h"
#include <memory>
#include <string>
#include <vector>

namespace winnow {

class Nvrtc {
public:
  /// Opens libnvrtc and its builtins library. Search order: `path` if given, WINNOW_NVRTC, the
  /// loader's path, the CUDA toolkit (CUDA_HOME, CUDA_PATH, /usr/local/cuda), site-packages of the
  /// active Python environment, of the source tree's and of the system's. A library that others
  /// could have put there is passed over (trustedLibrary). CompileFailed with every place that was
  /// tried, or with what is wrong with the one that was found.
  static Result<std::shared_ptr<const Nvrtc>> open(const std::string &path = {});

  /// The file that open() would take, or its error: no library is opened.
  static Result<std::string> locate(const std::string &path = {});
  /// Where open() looks when nothing is named, in order.
  static std::vector<std::string> searchFolders();
  /// What tells one NVRTC build from another without opening it: the ELF build id and the file's
  /// size.
  static Result<std::string> identity(const std::string &file);

  const std::string &path() const { return libraryPath; }
  int major() const { return majorVersion; }
  int minor() const { return minorVersion; }
  /// "13.0": goes into the cache key.
  std::string version() const {
    return std::to_string(majorVersion) + "." + std::to_string(minorVersion);
  }
  /// True if this NVRTC knows the architecture ("sm_90a" is asked as 90).
  bool supports(const std::string &arch) const;

  struct Output {
    std::string binary; ///< ELF of a real architecture, PTX text of a virtual one
    std::string log;    ///< ptxas -v lines and warnings
    double milliseconds = 0;
  };
  /// Compiles `source` for `arch` ("sm_80" gives a cubin, "compute_80" PTX). Thread-safe.
  /// CompileFailed with NVRTC's log.
  Result<Output> compile(const std::string &source, const std::string &name,
                         const std::string &arch) const;

private:
  struct Functions;
  std::shared_ptr<Functions> functions;
  std::string libraryPath;
  int majorVersion = 0, minorVersion = 0;
};

} // namespace winnow
