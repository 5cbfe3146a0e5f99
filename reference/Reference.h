// The fp64 reference: block-sparse attention computed on the host exactly as the specification
// reads, one row at a time. It judges every other implementation (the CPU target, the GPU kernels,
// recorded answers), so it shares no code with any of them and knows no method by name, only the
// axes on which methods differ.
//
// Shapes as in templates/Params.h: q [total_q, heads, head_dim], k [total_k, kv_heads, head_dim],
// v [total_k, kv_heads, value_dim], 16-bit words (fp8 keys and values one in a word); ids
// [select_heads, total_q, topk]. A "row" is one query token, numbered over the whole batch.
#pragma once
#include "runtime/program/Spec.h"
#include <cstdint>
#include <functional>
#include <vector>

namespace winnow::reference {

enum class Lse { None, Coarse, Exact };       ///< None: raw scores, no softmax
enum class Visibility { Absolute, Infllmv2 }; ///< which summaries a query sees
enum class Combine {
  None,
  Sum,
  Max
}; ///< over the query heads of one KV head; None: a selection per query head
/// Over the summaries that overlap a block; Overlap: a sum, each weighed by the strides it shares.
enum class Pool { Max, Sum, Overlap };

/// An elementwise region: (value, query position, row or key position) -> value.
using Map = std::function<double(double, int, int)>;

/// A method as a point on these axes.
struct Method {
  bool selects = true; ///< false: dense, the rest is unused
  int window = 32, stride = 16;
  int coarseWindow = 128, coarseStride = 64;
  Lse lse = Lse::Coarse;
  Visibility visibility = Visibility::Absolute;
  Combine combine = Combine::Sum;
  Pool pool = Pool::Max;
  int init = 1, local = 33; ///< forced blocks; local counts the query's own block
  int denseLen = -1;        ///< sequences with fewer keys are dense; -1: none
  /// denseLen is decided by each launch: what the program says of it is what denseLen must be.
  bool denseByLaunch = false;
  /// Rewrites each raw score (q . summary * scale); the last argument is the summary row.
  Map mapScore;
  /// Rewrites each logit (q . k * scale) of the attention; the last argument is the key's position.
  Map mapLogit;
  /// Its derivative by the logit, at (logit, query position, key position); empty beside mapLogit:
  /// there is none.
  Map logitSlope;
};

struct Problem {
  int heads = 0, kvHeads = 0, headDim = 0, block = 0, topk = 0;
  int valueDim = 0; ///< 0: head_dim
  Dtype dtype = Dtype::BF16;
  double scale = 0; ///< 0: head_dim^-0.5
  KvDtype kvDtype = KvDtype::Same;
  const uint16_t *q = nullptr, *k = nullptr, *v = nullptr;
  /// [kv_heads] what turns stored keys and values into true ones; empty: 1.
  std::vector<float> kScale, vScale;
  int spareKeys = 0; ///< key tokens in memory behind the last sequence, never to be used
  /// Cumulative lengths, batch + 1 entries; no query segment is longer than its keys.
  std::vector<int32_t> cuQ, cuK;

  double keyFactor(int kvHead) const { return kScale.empty() ? 1 : kScale[kvHead]; }
  double valueFactor(int kvHead) const { return vScale.empty() ? 1 : vScale[kvHead]; }
  /// Bytes of an element of keys and values in memory; here each has a word.
  int keyElementBytes() const { return kvDtype == KvDtype::Fp8E4m3 ? 1 : 2; }
  int totalQ() const { return cuQ.back(); }
  int selectHeads(const Method &method) const;
  int valueWidth() const { return valueDim != 0 ? valueDim : headDim; }
  double softmaxScale() const;
};
/// A problem of the spec's numbers, without tensors and lengths.
Problem problemOf(const Spec &spec);

/// Where a row sits: its sequence, absolute position, and the keys of the sequence.
struct Place {
  int sequence, position, keyBegin, keyCount;
  int queryCount, index; ///< length of the query segment, and the row's index in it
};
Place placeOf(const Problem &problem, int row);

struct Options {
  std::vector<int> rows;                     ///< rows to compute; empty: all
  int threads = 0;                           ///< 0: all cores
  std::function<void(double)> progress = {}; ///< called with 0..1 from one thread
  /// Summaries are not rounded to the dtype. The specification rounds them; an implementation that
  /// folds the softmax scale into its summaries rounds other numbers, equally close to these.
  bool exactWindows = false;
};

/// Every row, or `count` rows spread over the batch with both ends of each sequence among them
/// (deterministic).
std::vector<int> sampleRows(const Problem &problem, int count);

/// Selection of one row and select head.
struct RowSelection {
  std::vector<int32_t> ids;   ///< ascending, min(topk, causal blocks) entries
  std::vector<double> scores; ///< of the causal blocks, before forcing
  /// Scores (and threshold) are natural logarithms: those of a softmax, which no floating-point
  /// range holds. A score of 0 is the lowest finite number then, -inf a block without summaries.
  bool logarithmic = false;
  double threshold =
      0; ///< lowest score among the selected blocks that were not forced; +inf if all were
  double slack = 0;    ///< absolute rounding error to expect in any raw fp32 score of this row
  double rounding = 0; ///< error of a logarithm where summaries are rounded to 16 bits, be it
                       ///< before or after they are multiplied by the softmax scale
};
struct Selection {
  std::vector<int> rows;
  int selectHeads = 0;
  std::vector<RowSelection>
      entries; ///< [select_heads][rows]; empty vectors where the sequence is dense
  const RowSelection &at(int head, size_t rowIndex) const {
    return entries[head * rows.size() + rowIndex];
  }
};

/// Steps 1 to 4: summaries, scores, pooling, forced blocks, top-k.
Selection select(const Method &method, const Problem &problem, const Options &options = {});
/// Summaries of one sequence, [whole windows, kv_heads, head_dim], fp64 means rounded to the dtype.
std::vector<uint16_t> summarize(const Problem &problem, int sequence, int window, int stride,
                                int threads = 0);
/// Is block b forced for a query at `position`?
bool isForced(const Method &method, const Problem &problem, int position, int b);

/// Attention of some rows: fp64, and beside it the same computation in plain 16-bit arithmetic, as
/// PyTorch or NumPy would do it (logits, scaled logits, probabilities and output each rounded): the
/// yardstick of the error bar.
struct Attention {
  std::vector<int> rows;
  int heads = 0, valueDim = 0;
  std::vector<double> out;   ///< [rows, heads, value_dim]
  std::vector<double> plain; ///< the same in plain 16-bit arithmetic
  std::vector<double> bound; ///< [rows, heads, value_dim], error that 16-bit probabilities and
                             ///< output explain, doubled
  std::vector<double> lse;   ///< [heads, rows], natural log; -inf where nothing is selected or the
                             ///< method's region hides every key, NaN where it gives a NaN or +inf
  std::vector<double> lseBound; ///< [heads, rows], error that fp32 logits explain, at least 1e-4
};

/// Step 5 over given ids [select_heads, total_q, topk] (any content: -1, duplicates, out of range
/// and future blocks are handled by the rules); `ids` may be null for a method that selects
/// nothing. Dense sequences (step 6) ignore ids.
Attention attend(const Method &method, const Problem &problem, const int32_t *ids,
                 const Options &options = {});

/// The gradient of a tensor, laid out as the tensor, and how far one may be off that was made with
/// 16-bit probabilities and products of them from a 16-bit output; 0 where nothing was added.
struct Gradient {
  std::vector<double> exact, bound;
  std::vector<int> tokens; ///< those that it is about, one after the other; empty: all
};
struct Gradients {
  Gradient q, k, v;
};

/// Gradients of attend() over all rows by q, k and v, where `dout` (like out, 16-bit words) is that
/// of the output. The selection carries none. A method's region must have a derivative.
Gradients attendBackward(const Method &method, const Problem &problem, const int32_t *ids,
                         const uint16_t *dout, const Options &options = {});

/// What a launch of gradients is given beside q, k and v: results of attention and the gradient of
/// its output, laid out as there.
struct AttendedTensors {
  const uint16_t *out = nullptr;
  const float *lse = nullptr;
  const int32_t *ids = nullptr; ///< null for a method that selects nothing
  const uint16_t *dout = nullptr;
};

/// Gradients of some query rows, and of some keys (numbered over the batch), where all of them
/// would take too long: from `given` output and log-sum-exp, so that a row costs its keys and a key
/// the rows that attend to it. Whether those results are right is attend()'s to say.
Gradients sampleBackward(const Method &method, const Problem &problem, const AttendedTensors &given,
                         const std::vector<int> &rows, const std::vector<int> &keys,
                         const Options &options = {});

/// ids as a tensor [select_heads, total_q, topk] with -1 padding; rows that were not computed are
/// all -1.
std::vector<int32_t> idsTensor(const Selection &selection, const Problem &problem);

/// In fp64, as eight partial sums, so that compilers can use vectors.
double dotProduct(const double *a, const double *b, int count);

/// Calls body(i) for i in [0, count) on several threads.
void parallelFor(size_t count, const Options &options, const std::function<void(size_t)> &body);

} // namespace winnow::reference
