// The table of device profiles. "Data sheet" is the maker's for the product, "white paper" the one
// of its architecture; measurements on the H200 are ours. What no source gives is called an
// estimate.
#include "autotune/search/DeviceProfile.h"
#include <fmt/format.h>

namespace winnow {

namespace {

constexpr int kKiB = 1024;
constexpr double kMB = 1e6, kGBs = 1e9;

/// Share of the data sheet's bandwidth that reads reach: a copy on the H200 moves 4.3 of 4.8 TB/s.
constexpr double kDramShare = 0.9;
/// The same of the 5120 bytes per clock that the white papers of A100 and H100 give their L2: 8.2
/// of 10.1 TB/s at 1.98 GHz.
constexpr double kL2Share = 0.8;

} // namespace

const std::vector<DeviceProfile> &deviceProfiles() {
  // A100 (data sheet, white paper): 312 TFLOP/s = 108 SMs x 2048 x 1.41 GHz; 164 of the 192 KB of
  // L1 may be shared memory; 40 MB of L2; 2039 GB/s (80 GB) and 1555 GB/s (40 GB).
  //
  // RTX 4090 (Ada white paper): 165.2 TFLOP/s of bf16 with fp32 sums = 128 SMs x 512 x 2.52 GHz,
  // half of the rate with fp16 sums; 100 of the 128 KB of L1 may be shared memory; 72 MB of L2;
  // 1008 GB/s. Its L2 bandwidth, 5 TB/s, is an estimate.
  //
  // H200, measured: mma.sync 634 TFLOP/s where wgmma, of 4096 operations per clock and SM, reaches
  // 946; 1500 to 1800 MHz under its power limit, 1980 at decode; L2 reads up to 8.2 TB/s;
  // copies 4.3 TB/s. L1 (228 of 256 KB may be shared memory) and size of L2: H100 white paper.
  //
  // Latencies are of the order of published microbenchmarks (e.g. arXiv 2402.13499), rounded; 2 us
  // between the kernels of a graph is an estimate.
  static const auto &rows = *new std::vector<DeviceProfile>{
      // never destroyed: see Spec.cpp
      // name, device, compute capability, SMs, GHz, boost, mma operations, shared memory, L1,
      // threads;
      // L2 size, L2 and memory bandwidth, latency, launch
      {"a100", "NVIDIA A100-SXM4-80GB", 8, 0, 108, 1.41, 1.41, 2048, 164 * kKiB, 192 * kKiB, 2048,
       40 * kMB, 5120 * 1.41 * kL2Share * kGBs, 2039 * kDramShare * kGBs, 470, 2},
      {"a100-40gb", "NVIDIA A100-SXM4-40GB", 8, 0, 108, 1.41, 1.41, 2048, 164 * kKiB, 192 * kKiB,
       2048, 40 * kMB, 5120 * 1.41 * kL2Share * kGBs, 1555 * kDramShare * kGBs, 470, 2},
      {"rtx4090", "NVIDIA GeForce RTX 4090", 8, 9, 128, 2.52, 2.52, 512, 100 * kKiB, 128 * kKiB,
       1536, 72 * kMB, 5000 * kGBs, 1008 * kDramShare * kGBs, 540, 2},
      {"h200", "NVIDIA H200", 9, 0, 132, 1.65, 1.98, 4096 * 634.0 / 946, 228 * kKiB, 256 * kKiB,
       2048, 50 * kMB, 8200 * kGBs, 4300 * kGBs, 480, 2},
  };
  return rows;
}

Result<Multiprocessor> DeviceProfile::multiprocessor() const {
  WINNOW_TRY(const Target *own, target());
  return Multiprocessor{own->registersPerSm, sharedPerSm, kSharedReserve, threadsPerSm, kBlocks};
}

Result<const DeviceProfile *> findProfile(const std::string &name) {
  std::string known;
  for (const DeviceProfile &profile : deviceProfiles()) {
    if (name == profile.name)
      return &profile;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", profile.name);
  }
  return fail(ErrorKind::Usage,
              fmt::format("device profile '{}' is not known; use one of {}", name, known));
}

} // namespace winnow
