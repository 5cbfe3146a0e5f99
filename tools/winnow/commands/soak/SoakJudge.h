// What is wrong with the answer of one step of `winnow soak`.
#pragma once
#include "reference/conformance/Conformance.h"
#include "runtime/program/Launcher.h"
#include "tools/winnow/commands/soak/SoakInputs.h"

namespace winnow {

/// The first fault in words, or empty: an answer of a sequence that is not the reference's, or a
/// row behind the last query that was written. Computes on the calling thread alone.
std::string faultOf(const reference::Method &method, const SoakInputs &inputs, const SoakStep &step,
                    Phase phase, const CaseAnswer &answer);

/// The first difference between two answers to the same batch, or empty: they must be alike to the
/// bit.
std::string differenceOf(const SoakInputs &inputs, const SoakStep &step, const CaseAnswer &answer,
                         const CaseAnswer &other);

} // namespace winnow
