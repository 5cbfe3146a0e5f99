// Made-up records of tuned configurations for the tests of the look-up: a problem on a GPU, and the
// few fields that the tests vary.
#pragma once
#include "runtime/tuned/TunedLadder.h"

namespace winnow::test {

/// A phase of method "m" (default spec, value rows of 64) at 131072 tokens and overlap 32, at
/// decode 16 sequences, on arch sm_80, device "Fake 80GB": what the fake driver's GPU is called.
inline TuningKey sampleKey(const std::string &phase = "attend") {
  TuningKey key;
  key.phase = phase;
  key.method = "m";
  key.spec.valueDim = 64;
  key.tokens = 131072;
  key.overlap = dependsOnOverlap(phase) ? 32 : 0;
  key.spec.paged = phase == kDecodePhase;
  key.spec.backward = phase == kBackwardPhase;
  key.batch = phase == kDecodePhase ? 16 : 0;
  key.arch = "sm_80";
  key.device = "Fake 80GB";
  return key;
}

/// A measured record that sets one tunable: attend_stages, decode_stages, backward_key_stages or
/// score_chunk_mib, by the key's phase.
inline TuningRecord sampleRecord(const TuningKey &key, int value) {
  TuningRecord record;
  record.key = key;
  (key.phase == "attend"         ? record.config.attendStages
   : key.phase == kDecodePhase   ? record.config.decodeStages
   : key.phase == kBackwardPhase ? record.config.backwardKeyStages
                                 : record.config.scoreChunkMiB) = value;
  record.ms = 1;
  record.defaultMs = 2;
  record.rounds = 9;
  record.date = "2026-11-25";
  return record;
}

} // namespace winnow::test
