// Reads planned shared memory from the printed text, and registers from the cubin.
#include "tests/compile_matrix/KernelLimits.h"
#include "compiler/cuda/CubinInfo.h"
#include <algorithm>
#include <gtest/gtest.h>
#include <regex>

namespace winnow {

std::optional<long> sharedExtent(const std::string &source) {
  static const std::regex object(R"(\{shared \+ (\d+)\};)");
  static const std::regex asserted(
      R"(\{shared \+ (\d+)\};\s*static_assert\([^;]*::kBytes == (\d+)\);)");
  auto matches = [&](const std::regex &pattern) {
    return std::vector<std::smatch>(std::sregex_iterator(source.begin(), source.end(), pattern),
                                    {});
  };
  std::vector<std::smatch> sized = matches(asserted);
  if (sized.size() != matches(object).size())
    return std::nullopt;
  long extent = 0;
  for (const std::smatch &match : sized)
    extent = std::max(extent, std::stol(match[1]) + std::stol(match[2]));
  return extent;
}

void checkKernel(const Kernel &kernel, const Target &target, int mostSpilled) {
  SCOPED_TRACE("kernel " + kernel.name);
  std::optional<CubinInfo> cubin = readCubinInfo(kernel.cubin, kernel.name);
  ASSERT_TRUE(cubin);
  EXPECT_LE(kernel.spillBytes, mostSpilled);
  EXPECT_GT(cubin->registers, 0);
  EXPECT_LE(cubin->registers * kernel.blockThreads, target.registersPerSm);
  EXPECT_LE(kernel.sharedBytes, target.sharedPerBlock);
  // All shared memory is the planned, dynamic one: the cubin has no other than what the system
  // reserves.
  EXPECT_TRUE(cubin->staticSharedBytes == 0 || cubin->staticSharedBytes == target.sharedReserved)
      << cubin->staticSharedBytes << " bytes of static shared memory";
  std::optional<long> extent = sharedExtent(kernel.source);
  ASSERT_TRUE(extent) << "an object in shared memory whose size is not asserted";
  constexpr int kStep = 16; // an object takes whole ones
  EXPECT_EQ((*extent + kStep - 1) / kStep, (kernel.sharedBytes + kStep - 1) / kStep);
}

} // namespace winnow
