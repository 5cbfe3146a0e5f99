// Registers, stack and static shared memory of a kernel, read from the cubin itself; spills from
// ptxas's log.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace winnow {

struct CubinInfo {
  int registers = 0;
  int frameBytes = 0;        ///< local memory per thread, spills included
  int staticSharedBytes = 0; ///< the system's own bytes included
};

/// Facts of kernel `name` in an ELF cubin (sections .text.*, .nv.shared.*, .nv.info; attribute
/// numbers as in the CUDA binary utilities' output). Nothing if the file is no cubin or has no such
/// kernel.
std::optional<CubinInfo> readCubinInfo(std::string_view elf, const std::string &name);
/// Bytes of spill stores and loads that `ptxas -v` reports in `log`.
int spillBytes(const std::string &log);

} // namespace winnow
