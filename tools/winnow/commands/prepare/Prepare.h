// Compiles many programs into the cache before they are needed. NVRTC compiles one kernel at a time
// in a process, so the work is shared by processes: copies of this one, and whoever else prepares
// with the same cache. Each takes what no other is compiling.
#pragma once
#include "compiler/driver/Compile.h"
#include "runtime/cache/Cache.h"
#include "tools/winnow/io/CommandLine.h"
#include <optional>

namespace winnow {

/// One of `count` equal parts of a list: what a process does, or where a helper process begins.
struct Part {
  int index = 0, count = 1;
  /// "2/8"; nothing for another text.
  static std::optional<Part> parse(const std::string &text);
};

struct PrepareReport {
  int programs = 0, cached = 0; ///< different programs, and those that were in the cache before
  double seconds = 0;
  std::vector<std::string> failures; ///< one sentence per program that does not compile
};

/// Compiles what the cache lacks, on all cores. Helpers are started with this process's own command
/// line, `helperFlags` and --helper I/N; `helper` is set in one, which leaves to others what they
/// are compiling, and returns. Says how many could not begin.
PrepareReport preparePrograms(const std::vector<CompileRequest> &requests, Cache &cache,
                              const std::optional<Part> &helper,
                              const std::vector<std::string> &helperFlags = {"--prepare"});

/// --prepare and --helper of a command that measures programs.
struct PrepareOption {
  bool only = false; ///< compile and stop
  std::string helper;
  void addTo(CLI::App &command);
  /// Compiles all of them and tells of it. Error: CompileFailed, for the first one that does not
  /// compile.
  Status run(const std::vector<CompileRequest> &requests, Cache &cache) const;
};

} // namespace winnow
