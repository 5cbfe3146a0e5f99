// `winnow run` as an engine serves: the prompt comes in chunks, then token by token, and every call
// reads the keys so far from pages that stay where they are. Each call is compared with the fp64
// reference.
#pragma once
#include "reference/Compare.h"
#include "tools/winnow/backends/Backend.h"
#include "tools/winnow/commands/run/Prompt.h"
#include "tools/winnow/io/CommandLine.h"
#include <optional>

namespace winnow {

/// The flags that ask for it.
class PagedFlags {
public:
  void addTo(CLI::App &command);
  /// Whether any of them is given.
  bool given() const;
  /// Error: Usage, for flags that do not go together.
  Status check(bool hasFiles, bool hasImage) const;

  std::string layout = "pages";
  int pageSize = 64;
  int chunk = 0; ///< tokens of each sequence at a time; 0: the whole prompt
  int steps = 0; ///< of one token each, behind the prompt

private:
  const CLI::App *command = nullptr;
};

/// One call.
struct PagedStep {
  bool decodes = false;
  int begin = 0, end = 0; ///< tokens of the longest sequence that it brings
  size_t rows = 0;        ///< compared
  double milliseconds = 0;
  reference::SelectionReport selection;
  reference::OutputReport output;
  std::string fault; ///< empty: none
};

/// Keys and values of a batch that grows: pages and room for all of them from the start, in which
/// what is not yet there is NaN and the table points nowhere.
class PagedCache {
public:
  /// `all`: keys and values of the whole sequences; its tensors must outlive this. Of a method that
  /// scores summaries it keeps them from call to call, as an engine does.
  PagedCache(const reference::Problem &all, const reference::Method &method, Layout layout,
             int pageSize, uint64_t seed);
  /// Brings the keys up to these lengths, none shorter than before.
  void append(const std::vector<int> &lengths);
  /// Queries [rows, heads, head_dim], strided as engines have them.
  void setQueries(const std::vector<uint16_t> &q, int rows);
  /// Takes over the rows that a call has appended.
  void keepRows(CaseAnswer &answer);
  const StoredTensors &tensors() const { return stored; }

  /// Tokens of memory that a cache for these sequences has.
  static int64_t capacity(const std::vector<int> &lengths, Layout layout, int pageSize);

private:
  void copyKey(int sequence, int key);
  const reference::Problem &all;
  StoredTensors stored;
  std::vector<int32_t> places; ///< the table when everything is there
};

/// What storing keys and values as fp8 has changed, against the reference over the exact ones.
struct Fp8Cost {
  size_t rows = 0;             ///< compared
  long picks = 0, alike = 0;   ///< of the exact selection, and those of them that were made
  double error = 0;            ///< of the output: root mean square, as a share of the exact one's
  std::optional<Recall> exact; ///< what the exact selection finds
};
/// `answer`: of all tokens of the prompt, whose keys are fp8; `rows`: about how many are compared.
Fp8Cost fp8CostOf(const Prompt &prompt, const reference::Method &method, const CaseAnswer &answer,
                  int rows);

struct PagedOutcome {
  BackendAnswer answer; ///< of all tokens of the prompt, in its order; times are sums
  std::vector<PagedStep> steps;
};

/// Runs `call.request` on the prompt, whose sequences end with flags.steps tokens to decode; `call`
/// has no problem yet. `rows`: about how many the reference looks at. Errors: those of the backend.
Result<PagedOutcome> runPaged(Backend &backend, BackendCall call, const Prompt &prompt,
                              const reference::Method &method, const PagedFlags &flags, int rows,
                              const std::function<void(double)> &progress);

} // namespace winnow
