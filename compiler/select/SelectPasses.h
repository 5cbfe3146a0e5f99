// The select passes (SelectPasses.td) and their function forms, which return errors for people
// instead of diagnostics.
#pragma once
#include "dialect/Select.h"
#include "runtime/Spec.h"

namespace winnow {
#define GEN_PASS_DECL
#include "compiler/select/SelectPasses.h.inc"
#define GEN_PASS_REGISTRATION
#include "compiler/select/SelectPasses.h.inc"

/// Specialises a method in place. Errors: Usage (unknown parameter, heads that do not divide),
/// Unsupported (a number outside what Winnow serves, with the nearest one it does).
Status specializeMethod(select::MethodOp method, const Spec &spec);
/// Wraps the steps of a specialised method into select.kernel ops.
void fuseKernels(select::MethodOp method);
/// "file:line:column" of a location or an op, for messages.
std::string place(mlir::Location location);
std::string place(mlir::Operation *op);
} // namespace winnow
