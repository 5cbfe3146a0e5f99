// What a program is specialised for. Spec and Config together with the method's text and the target
// decide every byte of the generated code, so the cache key is made from exactly these structs
// (fault F09).
#pragma once
#include "runtime/Error.h"
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace winnow {

enum class Dtype { BF16, FP16 };

/// One specialisation of a method.
struct Spec {
  int heads = 32;    ///< query heads
  int kvHeads = 2;   ///< key/value heads; heads / kvHeads = the group size G
  int headDim = 128; ///< elements of one query or key row
  int valueDim = 0;  ///< elements of one value or output row; 0 means headDim
  int block = 64;    ///< tokens of one selectable key block
  int topk = 96;     ///< blocks selected per token, forced ones included
  Dtype dtype = Dtype::BF16;
  double scale = 0; ///< softmax scale; 0 means headDim^-0.5
  std::map<std::string, std::string>
      params; ///< method parameters given by --set, checked against the method's text

  int group() const { return heads / kvHeads; }
  int valueWidth() const { return valueDim != 0 ? valueDim : headDim; }
  double softmaxScale() const;
  /// Whether the numbers can be those of any program; what a compiler or GPU serves is another
  /// question. Whoever takes a spec from outside asks this before anything else (group() divides).
  /// Error: Usage, naming the field.
  Status check() const;
  /// Canonical one-line text, stable across processes: "heads=32 kv_heads=2 ... set.window=32".
  std::string text() const;
  /// Inverse of text(), of the effective values, checked. Error: Usage, naming the field.
  static Result<Spec> parse(const std::string &text);
};

/// The most that any whole number of a spec may be: products of two fit 32 bits.
constexpr int kMostSpecNumber = 32768;
/// A whole number of a spec by name, and what it may be.
struct SpecField {
  const char *name; ///< as in Spec::text; as a flag with '-'
  int Spec::*member;
  int least, most;
};
/// All of them, in the order of Spec::text.
const std::vector<SpecField> &specFields();
/// What Spec::scale may be, beside 0 for the default: outside of it scores leave fp32's range.
constexpr double kLeastScale = 1e-6, kMostScale = 1e6;

/// Tunables of the generated kernels; never change results beyond rounding. 0 = the target's
/// default.
struct Config {
  int attendForm = 0;  ///< 1 warpgroups (wgmma, bulk copies), 2 single warps (mma.sync, cp.async)
  int attendWarps = 0; ///< consumer warps of the attend kernel
  int attendProducers = 0; ///< producer warps of the attend kernel
  int attendStages = 0;    ///< ring stages (one K and one V tile each)
  int attendKeys = 0;      ///< keys of one ring stage
  int attendRows = 0;      ///< mma.sync only: rows of queries per warp, 16 or 32
  int attendSplit = 0;   ///< warpgroups only: 1 no, 2 key tiles that single warps want go to a part
                         ///< of their own
  int attendSoftmax = 0; ///< warpgroups only: 1 maximum of every step, 2 only where it is needed
  int attendFma = 0;     ///< warpgroups only: of every 4 exponentials, how many the FMA units make
                         ///< (2 or 3); 1: none
  int scoreForm = 0; ///< warpgroups only: 1 scores and their top-k in two kernels, with a buffer of
                     ///< scores between them; 2 in one kernel, with small scratch
  int scoreTokens =
      0; ///< tokens per block of threads of the score kernel for G = 16 (more for smaller groups)
  int scoreChunkMiB =
      0; ///< size of the block-score workspace; selection runs in chunks of tokens that fit it
  int scoreFold = 0; ///< 1 no, 2 summaries hold the softmax scale, so that a score
                     ///< is a power times a weight
  int scorePoly = 0; ///< warpgroups only: one exponential in 4 or 8 by a cubic on the FMA units; 1:
                     ///< none

  std::string text() const; ///< canonical: "attend_warps=8 ..."
  static Result<Config>
  parse(const std::string &text); ///< inverse of text(); unknown names are an error
};

/// A tunable by name.
struct ConfigField {
  const char *name; ///< as in Config::text
  int Config::*member;
};
/// All of them, in the order of Config::text.
const std::vector<ConfigField> &configFields();

const char *name(Dtype dtype);
Result<Dtype> parseDtype(const std::string &text);

} // namespace winnow
