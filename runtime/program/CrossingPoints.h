// From how many keys on it pays to select: the value `auto` of a method's dense_len. A shorter
// sequence attends to every key. Where the two ways take the same time depends on the batch, so a
// program has a formula of the launch's shape instead of a number; it is made of measured points,
// which stand in the value itself once they are looked up (TunedLadder.h):
//
//   auto                                       not looked up yet, or nothing known: the default
//   auto_12288_1x73728_16x11044_64x7642        prefill: 12288 keys; decode: one row 73728, ...
//
// Letters, digits and '_' alone: a keyword of method texts, and plain in the texts of specs.
#pragma once
#include "runtime/program/Spec.h"

namespace winnow {

struct CrossingPoints {
  /// At decode, where a batch has so many query tokens.
  struct Point {
    int rows = 1, keys = 0;
  };
  int prefill = 0;           ///< keys; also at decode, where there are no points
  std::vector<Point> decode; ///< rows rise strictly

  static constexpr const char *kUnresolved = "auto"; ///< the value before its points are known
  /// Whether a parameter's value is `auto`, with points or without.
  static bool isAuto(const std::string &value);
  /// The points of a value; of `auto` alone those of byDefault. Error: Usage, with how to write it.
  static Result<CrossingPoints> parse(const std::string &value, const Spec &spec);
  /// What is taken where nothing was measured: at prefill twice the keys of the selected blocks; at
  /// decode a quarter more than them, and the keys that a GPU reads while it selects, 64 MiB of
  /// keys and values in all sequences together. On an H200 this lies within 15 % of what was
  /// measured for 32 heads, 2 KV heads and top-96.
  static CrossingPoints byDefault(const Spec &spec);

  /// Canonical: equal points have equal text.
  std::string text() const;
  /// The formula of Params::dense_length over batch and max_q; `decodeQueries`: most query tokens
  /// of a sequence at decode. Between two points it follows a + b / rows: dense attention takes
  /// time for each key of each row, a selection for a launch and for each row, and this is where
  /// the two are equal. Outside it is the nearest point's.
  std::string formula(int decodeQueries) const;
};

} // namespace winnow
