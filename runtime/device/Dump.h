// $WINNOW_DUMP: whatever is prepared leaves its texts in a folder, so that somebody who debugs a
// host sees what runs there. A folder that cannot be written is told once and stops nothing.
#pragma once
#include "runtime/program/ProgramImage.h"
#include <string>
#include <string_view>

namespace winnow {

/// The folder of a program, $WINNOW_DUMP/METHOD-ARCH-KEY, made if it does not exist; empty where
/// the variable is unset or the folder cannot be made.
std::string dumpFolder(const ProgramImage &image);
/// Writes a file into such a folder.
void dumpFile(const std::string &folder, const std::string &name, std::string_view bytes);
/// KERNEL.cu and KERNEL.cubin (or .ptx) of each kernel, and program.txt: what it is of. Nothing
/// where the variable is unset.
void dumpImage(const ProgramImage &image);

} // namespace winnow
