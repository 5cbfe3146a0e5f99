// What ptxas makes of the products of backward_keys on warpgroups, read from the cubin. Where it
// cannot prove that all lanes agree on a stage, each product's descriptor goes through general
// registers (R2UR), and where registers are short it serialises products and spills.
#include "compiler/cuda/CubinInfo.h"
#include "compiler/cuda/Nvrtc.h"
#include "compiler/driver/Compile.h"
#include <algorithm>
#include <cstring>
#include <elf.h>
#include <gtest/gtest.h>
#include <vector>

namespace winnow {
namespace {

/// Opcodes of sm_90 code, the lower 12 bits of each 16 bytes, as nvdisasm 13.0 prints them.
constexpr unsigned kProductShared = 0x9f0, kProductRegisters = 0xdf0, kToUniform = 0x2ca;

/// Opcodes of the code of a cubin that NVRTC has just made.
std::vector<unsigned> opcodes(const std::string &cubin) {
  Elf64_Ehdr header;
  std::memcpy(&header, cubin.data(), sizeof(header));
  std::vector<unsigned> codes;
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    std::memcpy(&section, cubin.data() + header.e_shoff + i * sizeof(section), sizeof(section));
    if (section.sh_flags & SHF_EXECINSTR)
      for (size_t at = 0; at < section.sh_size; at += 16) {
        uint16_t low = 0;
        std::memcpy(&low, cubin.data() + section.sh_offset + at, sizeof(low));
        codes.push_back(low & 0xfff);
      }
  }
  return codes;
}

/// Those from the first product of warpgroups to the last one.
std::vector<unsigned> productLoop(const std::vector<unsigned> &codes) {
  auto isProduct = [](unsigned code) {
    return code == kProductShared || code == kProductRegisters;
  };
  auto first = std::find_if(codes.begin(), codes.end(), isProduct);
  auto last = std::find_if(codes.rbegin(), codes.rend(), isProduct);
  return first == codes.end() ? std::vector<unsigned>() : std::vector(first, last.base());
}

TEST(ProductLoop, KeysOnWarpgroupsStayUniform) {
  CompileRequest request;
  request.method = "infllm_v2";
  request.arch = "sm_90a";
  request.spec.backward = true;
  auto lowered = lowerProgram(request);
  ASSERT_TRUE(lowered) << lowered.error().message;
  const std::vector<Kernel> &kernels = lowered->first.kernels;
  const auto kernel = std::find_if(kernels.begin(), kernels.end(), [](const Kernel &kernel) {
    return kernel.name == "backward_keys";
  });
  ASSERT_NE(kernel, kernels.end());
  auto nvrtc = Nvrtc::open();
  ASSERT_TRUE(nvrtc) << nvrtc.error().message;
  auto code = (*nvrtc)->compile(kernel->source, kernel->name, request.arch);
  ASSERT_TRUE(code) << code.error().message;
  const std::vector<unsigned> loop = productLoop(opcodes(code->binary));
  auto count = [&](unsigned code) { return std::count(loop.begin(), loop.end(), code); };
  // S and dP twice, of a first step and of one that follows; dV and dK.
  EXPECT_EQ(count(kProductShared), 4 * 8);
  EXPECT_EQ(count(kProductRegisters), 2 * 4);
  EXPECT_LE(count(kToUniform), 24); // 10 as built with NVRTC 13.0; 100 and more where it is lost
  EXPECT_LE(spillBytes(code->log), 96);
  EXPECT_EQ(code->log.find("C75"), std::string::npos) << code->log; // serialised products
}

} // namespace
} // namespace winnow
