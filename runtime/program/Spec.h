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
/// Elements of keys and values: those of queries and output, or fp8 with 4 bits of exponent and 3
/// of mantissa (OCP 8-bit Floating Point Specification, E4M3), which times a number per key/value
/// head are the true ones.
enum class KvDtype { Same, Fp8E4m3 };

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
  /// Tensors come by strides, keys by lengths per sequence and, where the caller has them, page
  /// tables (LaunchArgs); false: packed, as in templates/Params.h.
  bool paged = false;
  KvDtype kvDtype = KvDtype::Same; ///< of paged programs
  bool backward = false;           ///< has launches of gradients too; of packed programs
  std::map<std::string, std::string>
      params; ///< method parameters given by --set, checked against the method's text

  int group() const { return heads / kvHeads; }
  int valueWidth() const { return valueDim != 0 ? valueDim : headDim; }
  bool hasFp8Keys() const { return kvDtype == KvDtype::Fp8E4m3; }
  int keyElementBytes() const { return hasFp8Keys() ? 1 : 2; } ///< of values as well
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

// The ways of tunables that number them; runtime/program/Tunables.cpp says what they mean. The
// numbers are in cache keys, images and records: a new way takes a new number.
enum class YesNo { Default, No, Yes };
enum class AttendForm { Default, Warpgroups, Warps };
enum class AttendSoftmax { Default, Eager, Lazy };
enum class AttendFma { Default, None, Half, ThreeQuarters };
enum class ScoreForm { Default, Separate, Fused };
enum class ScorePoly { Default, None, Quarter = 4, Eighth = 8 };
enum class DecodeForm { Default, Chain, Step };
enum class DecodeIds { Default, Listed, Direct };
enum class DecodeClusters { Default, Some, All, None };
enum class DecodeExchange { Default, Barriers, Messages };
enum class DecodeNewRows { Default, Wait, Make };
enum class BackwardForm { Default, Warpgroups, Warps };
enum class BackwardChanges { Default, Remade, Stored };

/// Tunables of the generated kernels; never change results beyond rounding. 0 = the target's
/// default. Each has its row in tunables() (runtime/program/Tunables.h): values, phase, meaning.
struct Config {
  AttendForm attendForm = {};
  int attendWarps = 0;
  int attendProducers = 0;
  int attendStages = 0;
  int attendKeys = 0;
  int attendRows = 0;
  YesNo attendSplit = {};
  AttendSoftmax attendSoftmax = {};
  AttendFma attendFma = {};
  ScoreForm scoreForm = {};
  int scoreTokens = 0;
  int scoreChunkMiB = 0;
  YesNo scoreFold = {};
  ScorePoly scorePoly = {};
  int decodeStages = 0;
  int decodeResident = 0;
  int decodePartTiles = 0;
  DecodeForm decodeForm = {};
  DecodeIds decodeIds = {};
  DecodeClusters decodeClusters = {};
  int decodeClusterBlocks = 0;
  int decodeSelectWarps = 0;
  DecodeExchange decodeExchange = {};
  DecodeNewRows decodeNewRows = {};
  BackwardForm backwardQueries = {};
  BackwardForm backwardKeys = {};
  BackwardChanges backwardChanges = {};
  int backwardChunkMiB = 0;
  int backwardQueryWarps = 0;
  int backwardQueryStages = 0;
  int backwardQueryKeys = 0;
  int backwardKeyStages = 0;
  int backwardKeyRows = 0;
  int backwardTileKeys = 0;
  int backwardRangeTokens = 0;

  /// Canonical, all of them by number: "attend_form=0 attend_warps=8 ...". Cache keys are made of
  /// it, so words, which read better, stay out of it.
  std::string text() const;
  /// Inverse of text(); values may also be words, "attend_softmax=lazy". Error: Usage, for a name,
  /// a word or a number that cannot be read; whether a number is legal is check()'s question.
  static Result<Config> parse(const std::string &text);
  /// Whether each tunable has a value that kernels can be built with. Error: Usage, with the legal
  /// ones.
  Status check() const;
};

const char *name(Dtype dtype);
Result<Dtype> parseDtype(const std::string &text);
const char *name(KvDtype dtype);
Result<KvDtype> parseKvDtype(const std::string &text);

} // namespace winnow
