// The table of conformance cases: what every implementation is tried on. One table serves the CPU
// tests and the runs on a GPU; it is data (cases.json), so that a method is named only there.
#pragma once
#include "reference/Reference.h"
#include "runtime/Error.h"
#include "runtime/program/Spec.h"
#include <string>
#include <vector>

namespace winnow {

struct ConformanceCase {
  std::string name, method;
  Spec spec;
  Config config;                              ///< tunables, for implementations that have them
  std::vector<std::pair<int, int>> sequences; ///< (query tokens, key tokens)
  /// "normal": keys with topics; "wide", "sigma8", "huge" and "beyond": the same with larger logits
  /// (of deviation 8, 40 and 400 in the last three, whatever the scale; the last one's scores leave
  /// the range of fp32 in both directions); "peaks": blocks whose logits differ by whole numbers
  /// times 64 scale, up to 3840 scale; "iid": independent normal numbers, whose block scores are
  /// nearly alike; "valleys": logits of even heads from -640 scale down, of odd ones from -320
  /// scale, so that no normaliser is near 0; "ties": all keys of a head alike, so that only the tie
  /// rule decides; "hollow": every third value of a row is 0; "poison": sequences of NaN and
  /// infinity without queries stand between the real ones.
  std::string data = "normal";
  bool givenIds = false; ///< attention alone, over adversarial ids
  bool append = false;   ///< rows alone (Append.h): the sequences' keys come in chunks
  bool backward = false; ///< the gradients too, of a program that has them
  /// Where tensors lie (Layout.h), for a spec that is paged; "" = packed, as templates/Params.h
  /// says.
  std::string layout;
  int pageSize = 64;      ///< tokens, of layouts with pages
  int64_t pageGap = 0;    ///< elements between one page and the next
  bool scaled = false;    ///< fp8 keys and values have a factor per head; false: none is given
  bool keepsRows = false; ///< the host keeps the summaries, those of earlier tokens appended before
  bool large = false;     ///< needs many GB: only when asked for
  int rows = 96;          ///< rows compared with the reference
  /// Least share of the blocks selected by score that agree with the reference on summaries that
  /// are not rounded; 0: not asked for.
  double leastRecall = 0;
  uint64_t seed = 1;
};

/// All cases; the table is built into the program. An unreadable table is an error naming the case.
Result<std::vector<ConformanceCase>> conformanceCases();

/// Tensors of one case. Memory behind the last token is poisoned.
struct CaseInputs {
  std::vector<uint16_t> q, k, v;
  reference::Problem problem; ///< points into the vectors above
  std::vector<int32_t> ids;   ///< filled where ids are given
  std::vector<uint16_t> dout; ///< the output's gradient, like out
};
/// A gradient of the output, of independent normal numbers: like out.
std::vector<uint16_t> makeOutputGradient(const reference::Problem &problem, uint64_t seed);
CaseInputs makeInputs(const ConformanceCase &test, int selectHeads, int threads = 0);

/// Writes a block list [topk] that a caller should never write and that must do no harm: one
/// pattern after the other by `seed`. `blocks`: of the sequence; `own`: the block of the query.
void adversarialRow(int32_t *ids, int topk, int blocks, int own, uint64_t seed);

} // namespace winnow
