// Lists of specs, as `winnow tune` takes them: every field a list, and the grid is their product.
// From flags
// (--head-dim 64,128 --topk 16,96) or from a JSON file of such grids.
#pragma once
#include "compiler/driver/Compile.h"
#include "tools/winnow/io/CommandLine.h"
#include <nlohmann/json.hpp>

namespace winnow {

/// One program of a grid and the workloads to tune it for.
struct GridEntry {
  std::string method;
  Spec spec;
  std::vector<int> tokens, overlaps, batches;
  std::vector<std::string> phases; ///< of Tunable::phase
};

/// Where the method forces more blocks than the spec's budget, a third of it is local, unless --set
/// names `local`: what models of the field have (33 of 96). Errors: as readAxes.
Status fitLocal(const std::string &method, Spec &spec);

class SpecGrid {
public:
  /// Flags: --heads, --kv-heads, --group, --head-dim, --value-dim, --block, --topk, --dtype,
  /// --kv-dtype, --set, --seq, --overlap, --batch, --phase; lists separated by commas.
  void addTo(CLI::App &command);
  /// The grid of the flags for a method.
  Result<std::vector<GridEntry>> entries(const std::string &method) const;
  /// The first of the flags that was given, as "--topk"; empty: none. A file of grids has no use
  /// for them.
  std::string firstGiven() const;
  /// The grids of a JSON text: a list of objects whose members are the flags' names with '_',
  /// "method" and "set"; each a value or a list of values. `name` stands in errors. Error: Usage,
  /// naming the entry and the member.
  static Result<std::vector<GridEntry>> parse(const std::string &text, const std::string &name);

private:
  std::map<std::string, std::string> given; ///< flag without dashes -> list
  std::vector<std::string> assignments;
};

} // namespace winnow
