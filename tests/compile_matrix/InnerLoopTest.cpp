// The inner loops of kernels on warpgroups as machine code: from the first to the last product of a
// warpgroup nothing is in local memory, and descriptors are made in uniform registers. ptxas keeps
// them there where it knows ring stages and trip counts to be the same in all lanes; else it moves
// four words for each product (R2UR), which cost a prototype 8 % of its time. Entry: an NVRTC on
// this machine. Exit: each kernel within its bounds.
#include "compiler/cuda/CubinInfo.h"
#include "compiler/cuda/Nvrtc.h"
#include "compiler/driver/Compile.h"
#include <algorithm>
#include <cstring>
#include <elf.h>
#include <gtest/gtest.h>

using namespace winnow;

namespace {

/// The low 12 bits of instructions of sm_90, as nvdisasm shows them: HGMMA with its left factor in
/// shared memory and in registers; R2UR; LDL and STL.
constexpr unsigned kSharedProduct = 0x9f0, kRegisterProduct = 0xdf0, kToUniform = 0x2ca,
                   kLocalLoad = 0x983, kLocalStore = 0x387;
constexpr size_t kInstructionBytes = 16;

template <typename T> T at(const std::string &bytes, size_t offset) {
  T value{};
  if (offset + sizeof(T) <= bytes.size())
    std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

/// Opcodes of kernel `name` in a cubin; none if it is not there.
std::vector<unsigned> opcodes(const std::string &cubin, const std::string &name) {
  const auto header = at<Elf64_Ehdr>(cubin, 0);
  auto section = [&](unsigned i) {
    return at<Elf64_Shdr>(cubin, header.e_shoff + i * sizeof(Elf64_Shdr));
  };
  std::vector<unsigned> found;
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    const Elf64_Shdr text = section(i);
    const size_t title = section(header.e_shstrndx).sh_offset + text.sh_name;
    if (cubin.compare(title, name.size() + 7, ".text." + name + '\0') == 0)
      for (size_t offset = 0; offset < text.sh_size; offset += kInstructionBytes)
        found.push_back(at<uint64_t>(cubin, text.sh_offset + offset) & 0xfff);
  }
  return found;
}

/// What a program's kernel has between its first and its last product.
void checkProducts(const char *spec, const char *name, int products, const char *config = "") {
  CompileRequest request;
  request.method = "infllm_v2";
  request.arch = "sm_90a";
  request.spec = *Spec::parse(spec);
  request.config = *Config::parse(config);
  auto lowered = lowerProgram(request);
  ASSERT_TRUE(lowered) << lowered.error().message;
  const std::vector<Kernel> &kernels = lowered->first.kernels;
  auto kernel = std::find_if(kernels.begin(), kernels.end(),
                             [&](const Kernel &one) { return one.name == name; });
  ASSERT_NE(kernel, kernels.end());
  Result<std::shared_ptr<const Nvrtc>> nvrtc = Nvrtc::open();
  ASSERT_TRUE(nvrtc) << nvrtc.error().message;
  Result<Nvrtc::Output> output = (*nvrtc)->compile(kernel->source, name, request.arch);
  ASSERT_TRUE(output) << output.error().message;
  // C7510 to C7520: products that ptxas makes wait for each other.
  EXPECT_EQ(output->log.find("wgmma"), std::string::npos) << output->log;

  const std::vector<unsigned> code = opcodes(output->binary, name);
  auto isProduct = [](unsigned op) { return op == kSharedProduct || op == kRegisterProduct; };
  const auto first = std::find_if(code.begin(), code.end(), isProduct);
  const auto last = std::find_if(code.rbegin(), code.rend(), isProduct).base();
  ASSERT_LT(first, last);
  EXPECT_EQ(std::count_if(first, last, isProduct), products);
  EXPECT_EQ(std::count(first, last, kLocalLoad) + std::count(first, last, kLocalStore), 0);
  EXPECT_LE(std::count(first, last, kToUniform), 8);
}

// MiniCPM4.1. Rows of 128 elements are 8 steps of a product, 64 keys are 4.
TEST(InnerLoop, OfAttendOnWarpgroups) { checkProducts("", "attend", 8 + 8 + 4 + 4); }
TEST(InnerLoop, OfBackwardQueriesOnWarpgroups) {
  checkProducts("backward=1", "backward_queries", 8 + 8 + 4);
}
// One product of 64 keys, written three times: the first of a run, and two that follow each other.
TEST(InnerLoop, OfBackwardQueriesFromChanges) {
  checkProducts("backward=1", "backward_queries", 3 * 4, "backward_changes=stored");
}

} // namespace
