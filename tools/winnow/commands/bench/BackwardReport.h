// What `winnow bench backward` measured, as lines and as JSON, beside the times of others.
#pragma once
#include "tools/winnow/commands/bench/BackwardBench.h"
#include <nlohmann/json.hpp>

namespace winnow {

/// Times of another implementation, a line of what tests/gpu/backward_peer.py prints; 0: unknown.
struct BackwardPeer {
  std::string name;
  int seq = 0;
  double ms = 0, pacedMs = 0;         ///< of gradients, back to back and paced
  double bothMs = 0, bothPacedMs = 0; ///< of attention and gradients
  /// Every line of a file of JSON lines. Error: Usage, with file and line.
  static Result<std::vector<BackwardPeer>> load(const std::string &path);
};

struct BackwardMeasurement {
  std::string variant;
  int tokens = 0;
  int topk = 0, overlap = 0; ///< 0: nothing is selected
  bool checked = true;
  BackwardTiming timing;
  double operations = 0; ///< useful ones of a launch of gradients
  double tflops(const RegimeTiming &regime) const { return operations / regime.medianMs * 1e-9; }
};

/// "backward 131072 tokens, top-96, L = 32, sm_90a: ... ms paced, ... back to back", what goes with
/// it, kernels and peers below it.
std::string measurementText(const BackwardMeasurement &measurement,
                            const std::vector<BackwardPeer> &peers);
nlohmann::json measurementJson(const BackwardMeasurement &measurement);
nlohmann::json peerJson(const BackwardPeer &peer);

} // namespace winnow
