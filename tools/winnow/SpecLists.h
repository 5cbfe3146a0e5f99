// Lists of specs on the command line: every combination of comma-separated values, or the entries
// of a JSON file; each with its lengths and likenesses of neighbours.
#pragma once
#include "runtime/Spec.h"
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace winnow {

/// One program, and what to run it on.
struct SpecPoint {
  std::string method;
  Spec spec;
  std::vector<int> tokens, overlaps;
};

class SpecLists {
public:
  /// Adds METHOD and the list flags.
  void addTo(CLI::App &command);
  /// Where a method forces more blocks than the top-k, a third of them is local, as in `winnow
  /// bench`. Errors: Usage, naming the flag, or the file and entry.
  Result<std::vector<SpecPoint>> points() const;

private:
  Result<std::vector<SpecPoint>> combinations() const;
  Result<std::vector<SpecPoint>> fromFile() const;

  std::string method, headDim = "128", heads = "32", group = "16", block = "64", topk = "96",
                      seq = "16384,131072", overlap = "1,32", dtype = "bf16", file;
  std::vector<std::string> assignments;
};

} // namespace winnow
