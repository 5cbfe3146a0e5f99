// What `winnow bench decode` measured, as lines and as JSON, beside the times of others.
#pragma once
#include "tools/winnow/commands/bench/DecodeBench.h"
#include <nlohmann/json.hpp>

namespace winnow {

/// A time of another implementation, a line of what tests/gpu/decode_peer.py prints.
struct DecodePeer {
  std::string name;
  int batch = 0, seq = 0, queries = 1;
  double us = 0;
  /// Every line of a file of JSON lines. Error: Usage, with file and line.
  static Result<std::vector<DecodePeer>> load(const std::string &path);
};

struct DecodeMeasurement {
  std::string variant;
  DecodeShape shape;
  int topk = 0, sets = 0;
  int overlap = 0;          ///< 0: does not apply
  int denseLength = -1;     ///< of a dense_len that is `auto`: what it is in this row; else -1
  bool wholeProgram = true; ///< or attention alone, over given ids
  bool checked = true, cold = true;
  DecodeTiming timing;
  double terabytesPerSecond = 0; ///< behind the floor
  double floorUs() const { return timing.bytesRead / terabytesPerSecond * 1e-6; }
  double reached() const { return timing.bytesRead / timing.medianUs * 1e-6; } ///< TB/s
};

/// "decode 16 x 131072 keys, top-96, sm_90a: 48.1 us (...), floor ...", kernels and peers below it.
std::string measurementText(const DecodeMeasurement &measurement,
                            const std::vector<DecodePeer> &peers);
nlohmann::json measurementJson(const DecodeMeasurement &measurement);
nlohmann::json peerJson(const DecodePeer &peer);
/// "16 x 131072 keys, 4 queries": what a row measures, in a few words.
std::string shapeText(const DecodeShape &shape);

} // namespace winnow
