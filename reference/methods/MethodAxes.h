// What a method text means, in the terms of the fp64 reference: how tools and tests check methods
// that they know only as text.
#pragma once
#include "reference/Reference.h"
#include "runtime/Error.h"
#include "runtime/program/Spec.h"
#include <map>
#include <string>

namespace winnow {

/// Reads the one method in `text` (MLIR; `name` is for messages) with the spec's parameters filled
/// in. It looks at the ops as written and runs no pass, so a fault in a pass cannot hide here.
/// Errors: Usage for a broken text or an unknown parameter; Unsupported for what the reference
/// cannot express.
Result<reference::Method> axesOfText(const std::string &text, const std::string &name,
                                     const Spec &spec);
/// The parameters that the method declares, with their defaults as --set would take them.
Result<std::map<std::string, std::string>> methodParameters(const std::string &text,
                                                            const std::string &name);

} // namespace winnow
