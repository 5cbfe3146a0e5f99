// $WINNOW_DUMP for what is compiled: the stages before CUDA, and what an assembler sees and makes.
#pragma once
#include "compiler/cuda/Nvrtc.h"
#include "compiler/driver/Compile.h"

namespace winnow {

/// "sm_80" -> "compute_80".
std::string virtualArch(const std::string &arch);

/// Leaves what dumpImage does, and select.mlir, kernels.mlir, KERNEL.tile.mlir, KERNEL.ptx and,
/// where CUDA's nvdisasm is on the PATH, KERNEL.sass of each kernel; nothing where the variable is
/// unset. `nvrtc`: null for code that NVRTC did not make.
void dumpStages(const ProgramImage &image, const std::vector<StageText> &stages,
                const Nvrtc *nvrtc);

} // namespace winnow
