// Compiles many programs into the cache before they are needed. NVRTC compiles one kernel at a time
// in a process, so the work is shared by processes: copies of this one, each with a part of the
// list.
#pragma once
#include "compiler/Compile.h"
#include "runtime/Cache.h"
#include <optional>

namespace winnow {

/// Which part of the list a helper process compiles: `index` of `count`.
struct Part {
  int index = 0, count = 1;
  /// "2/8"; nothing for another text.
  static std::optional<Part> parse(const std::string &text);
};

struct PrepareReport {
  int programs = 0, cached = 0; ///< different programs, and those that needed no compilation
  double seconds = 0;
  std::vector<std::string> failures; ///< one sentence per program that does not compile
};

/// Compiles what the cache lacks, on all cores. Helpers are started with this process's own command
/// line and --prepare --part I/N; `part` is set in a helper, which compiles its part and no more.
PrepareReport preparePrograms(const std::vector<CompileRequest> &requests, Cache &cache,
                              const std::optional<Part> &part);

} // namespace winnow
