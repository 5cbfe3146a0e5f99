// Prints a tile.kernel as CUDA C++: the last MLIR step of the way of a kernel. On entry shared
// memory is planned and barriers are in place; on exit the text compiles with NVRTC against
// templates/.
#pragma once
#include "dialect/tile/Tile.h"
#include <string>

namespace winnow {

/// CUDA C++ text of one kernel. `leafHeader` is the include of the target, e.g. "winnow/sm80.cuh".
/// A leaf op prints as a call to the device function of the same name, so a new leaf needs no
/// change here; an op outside tile, scf and arith is an error with the op's location.
mlir::FailureOr<std::string> emitCuda(tile::KernelOp kernel, llvm::StringRef leafHeader);

/// One hook as it stands in a kernel: `const auto name = [](float value, ...) { ... };`.
std::string emitHook(tile::HookOp hook);

} // namespace winnow
