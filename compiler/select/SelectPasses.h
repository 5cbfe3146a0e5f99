// The select passes (SelectPasses.td) and their function forms, which return errors for people
// instead of diagnostics.
#pragma once
#include "dialect/select/MethodText.h"
#include "runtime/program/Spec.h"

namespace winnow {
#define GEN_PASS_DECL
#include "compiler/select/SelectPasses.h.inc"
#define GEN_PASS_REGISTRATION
#include "compiler/select/SelectPasses.h.inc"

/// Specialises a method in place. Error: Usage (unknown parameter, heads that do not divide,
/// numbers that a step cannot have).
Status specializeMethod(select::MethodOp method, const Spec &spec);
/// Gives a specialised method, before fusion, the step that makes gradients. Error: Unsupported,
/// with the place of an op of its region that has no derivative.
Status deriveBackward(select::MethodOp method);
/// Wraps the steps of a specialised method into select.kernel ops.
void fuseKernels(select::MethodOp method);
} // namespace winnow
