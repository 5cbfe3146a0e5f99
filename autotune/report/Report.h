// The figures of `winnow report`, computed from the lines of tuned files: how much tuning gained,
// what each way of choosing a configuration without measuring would have lost (regret), how far
// kernels are from the floor, and what was left out and why. The page only draws them, see
// ReportPage.h.
#pragma once
#include "runtime/tuned/TuningRecord.h"
#include <nlohmann/json.hpp>
#include <optional>

namespace winnow {

/// All figures as one object:
///   head      devices, drivers, dates, protocols, counts; speed-ups (default time / tuned time):
///             geomean, best and worst, with the index of the key
///   configs, reasons, outcomes   texts that trials name by index
///   keys      one object per key, best record first by outranks(), sorted by shape. `trials`:
///             [config, outcome, reason or -1, ms, low, high, rounds], the times left out where
///             there are none. `choices`: what the default, the model and the nearest neighbour
///             would have run, with `fate` (measured, pruned, rejected or missing: not among the
///             trials) and `regret`, ms / best - 1; the model's device, the neighbour's key
///   regret    per way of choosing: count, median and worst regret, and how many of each other fate
///   pruned, rejected   groups of trials by reason, numbers blanked, with an example
/// `faults` of the lines are taken over. Lines may be empty.
nlohmann::ordered_json reportFigures(const TuningLines &lines);

/// A reason without what tells candidates apart: numbers become '#', those in names (sm_90a) stay.
std::string reasonPattern(const std::string &reason);

} // namespace winnow
