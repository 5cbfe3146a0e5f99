// The table of GPU architectures. Adding a GPU starts with a row here; nothing else in Winnow
// compares sm numbers. Source of the figures: CUDA C++ Programming Guide, "Compute Capabilities",
// technical specifications table.
#include "runtime/device/Target.h"
#include <cstring>
#include <fmt/format.h>

namespace winnow {

namespace {

constexpr int kKiB = 1024;

std::string knownArchs() {
  std::string names;
  for (const Target &target : targets())
    names += fmt::format("{}{}", names.empty() ? "" : ", ", target.arch);
  return names;
}

/// "a" architectures run on exactly one compute capability; plain ones on later minors of the same
/// major too.
bool isArchSpecific(const Target &target) {
  return target.arch[std::strlen(target.arch) - 1] == 'a';
}

} // namespace

const std::vector<Target> &targets() {
  // From sm_90 on the static shared section of a cubin includes the 1024 bytes that the system
  // reserves per block; on the older ones the reserve is not part of it. sharedPerBlock is without
  // the reserve on all of them.
  static const auto &rows = *new std::vector<Target>{
      // never destroyed: see Spec.cpp
      // Tensor rates: as data sheets give them for one GPU of the kind, with fp32 accumulation and
      // without sparsity; sm_90a as measured on an H200 (8192^3 product; the card is limited by
      // power). Nothing was measured on sm_86, sm_87 and from sm_100 on, whose own matrix
      // instructions (tcgen05) the kernels do not use: mma.sync does not reach the data sheet
      // there.
      // sm_80 A100, sm_86 RTX 3090, sm_87 Jetson AGX Orin, sm_89 RTX 4090, sm_100 B200, sm_103
      // B300,
      // sm_120 RTX 5090, sm_121 GB10.
      // arch    cc     shared/block  reserved registers  cp.async  TMA   wgmma  early  clusters fp8
      // leaves tensor rate
      {"sm_80", 8, 0, 163 * kKiB, 0, 65536, true, false, false, false, false, false, "sm80.cuh",
       312},
      {"sm_86", 8, 6, 99 * kKiB, 0, 65536, true, false, false, false, false, false, "sm89.cuh", 71},
      {"sm_87", 8, 7, 163 * kKiB, 0, 65536, true, false, false, false, false, false, "sm80.cuh",
       43},
      {"sm_89", 8, 9, 99 * kKiB, 0, 65536, true, false, false, false, false, true, "sm89.cuh", 165},
      {"sm_90a", 9, 0, 227 * kKiB, 1024, 65536, true, true, true, true, true, true, "sm90.cuh",
       790},
      {"sm_100", 10, 0, 227 * kKiB, 1024, 65536, true, false, false, false, false, true, "sm80.cuh",
       2250},
      {"sm_103", 10, 3, 227 * kKiB, 1024, 65536, true, false, false, false, false, true, "sm80.cuh",
       2500},
      {"sm_120", 12, 0, 99 * kKiB, 1024, 65536, true, false, false, false, false, true, "sm89.cuh",
       209},
      {"sm_121", 12, 1, 99 * kKiB, 1024, 65536, true, false, false, false, false, true, "sm89.cuh",
       125},
  };
  return rows;
}

const Target &defaultTarget() { return **findTarget("sm_90a"); }

Result<const Target *> findTarget(const std::string &arch) {
  for (const Target &target : targets())
    if (arch == target.arch)
      return &target;
  return fail(ErrorKind::Unsupported,
              fmt::format("arch '{}' is not known; use one of {}", arch, knownArchs()));
}

bool runsOn(const Target &target, int major, int minor) {
  if (isArchSpecific(target))
    return major == target.major && minor == target.minor;
  return major == target.major && minor >= target.minor;
}

bool ptxRunsOn(const Target &target, int major, int minor) {
  if (isArchSpecific(target))
    return runsOn(target, major, minor);
  return major > target.major || (major == target.major && minor >= target.minor);
}

Result<const Target *> targetForDevice(int major, int minor) {
  const Target *best = nullptr;
  for (const Target &target : targets())
    if (runsOn(target, major, minor) && (!best || target.minor > best->minor))
      best = &target;
  if (best)
    return best;
  return fail(
      ErrorKind::Unsupported,
      fmt::format(
          "no kernels for a GPU of compute capability {}.{}: this build knows {}; use a newer "
          "Winnow, or run on the CPU with --device cpu",
          major, minor, knownArchs()));
}

} // namespace winnow
