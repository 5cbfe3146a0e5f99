// Kernels of gradients through NVRTC, without a GPU: a few programs per architecture, which between
// them have every form of backward_queries and backward_keys and the ends of what each serves.
// Entry: an NVRTC on this machine. Exit: every kernel within the limits of the compile matrix, in
// the form that the row says.
#include "compiler/cuda/CubinInfo.h"
#include "compiler/cuda/Nvrtc.h"
#include "compiler/driver/Compile.h"
#include "tests/compile_matrix/KernelLimits.h"
#include <gtest/gtest.h>
#include <map>
#include <set>

using namespace winnow;

namespace {

enum class Form { Warps, Warpgroups };
constexpr Form kWarps = Form::Warps, kWarpgroups = Form::Warpgroups;

/// How a kernel is built, and how many bytes of a thread's registers may go to memory: as many as
/// NVRTC 13.0 needs, or a few more. On warps rows above 128 elements spill; on warpgroups the
/// feeding warps do, and what lives between items (docs/kernels/backward.md).
struct Built {
  Form form;
  int mostSpilled;
};

struct Row {
  const char *arch, *method, *spec, *config;
  Built queries, keys;
};

// clang-format off
constexpr Row kRows[] = {
    {"sm_80", "infllm_v2", "", "", {kWarps, 0}, {kWarps, 0}},
    {"sm_80", "infllm_v2", "heads=8 kv_heads=8 head_dim=64 block=128 dtype=fp16", "", {kWarps, 0}, {kWarps, 0}},
    {"sm_80", "infllm_v2", "heads=12 kv_heads=2 head_dim=192 value_dim=128 block=32 dtype=fp16", "", {kWarps, 32}, {kWarps, 32}},
    {"sm_80", "infllm_v2", "heads=8 kv_heads=8 head_dim=256 dtype=fp16", "", {kWarps, 600}, {kWarps, 1440}},
    {"sm_80", "moba", "heads=32 kv_heads=1 head_dim=64 value_dim=128", "", {kWarps, 0}, {kWarps, 0}},
    {"sm_80", "dense", "heads=32 kv_heads=8", "", {kWarps, 0}, {kWarps, 0}},
    {"sm_89", "infllm_v2", "", "", {kWarps, 0}, {kWarps, 0}},
    {"sm_89", "infllm_v2", "heads=24 kv_heads=8 head_dim=192", "", {kWarps, 32}, {kWarps, 192}},
    {"sm_89", "dense", "heads=8 kv_heads=1 head_dim=64 dtype=fp16", "", {kWarps, 0}, {kWarps, 0}},
    {"sm_90a", "infllm_v2", "heads=8 kv_heads=2 dtype=fp16", "", {kWarpgroups, 0}, {kWarpgroups, 80}},
    {"sm_90a", "infllm_v2", "heads=16 kv_heads=2 head_dim=64 block=128", "", {kWarpgroups, 0}, {kWarpgroups, 64}},
    {"sm_90a", "infllm_v2", "heads=12 kv_heads=2 head_dim=192 value_dim=64 block=32 dtype=fp16", "", {kWarpgroups, 0}, {kWarps, 0}},
    {"sm_90a", "infllm_v2", "heads=64 kv_heads=2 block=256 topk=8 set.coarse_stride=64 set.coarse_window=128 set.local=1 set.stride=64 set.window=128", "", {kWarpgroups, 0}, {kWarpgroups, 112}},
    {"sm_90a", "moba", "heads=12 kv_heads=4 head_dim=64 value_dim=192 dtype=fp16", "", {kWarpgroups, 0}, {kWarps, 0}},
    {"sm_90a", "dense", "heads=32 kv_heads=8 head_dim=64", "", {kWarpgroups, 0}, {kWarpgroups, 64}},
    {"sm_90a", "infllm_v2", "heads=24 kv_heads=2 dtype=fp16", "backward_changes=stored", {kWarpgroups, 0}, {kWarpgroups, 192}},
    {"sm_90a", "infllm_v2", "heads=32 kv_heads=2", "backward_changes=stored", {kWarpgroups, 0}, {kWarpgroups, 192}},
};
// clang-format on

CompileRequest requestOf(const Row &row) {
  CompileRequest request;
  request.method = row.method;
  request.arch = row.arch;
  Result<Spec> spec = Spec::parse(std::string("backward=1 ") + row.spec);
  Result<Config> config = Config::parse(row.config);
  EXPECT_TRUE(spec && config);
  if (spec && config)
    request.spec = *spec, request.config = *config;
  return request;
}

Built builtAs(const Row &row, const Kernel &kernel) {
  return kernel.name == "backward_queries" ? row.queries
         : kernel.name == "backward_keys"  ? row.keys
                                           : Built{kWarps, 0};
}

TEST(BackwardMatrix, EveryKernelWithinItsLimits) {
  Result<std::shared_ptr<const Nvrtc>> nvrtc = Nvrtc::open();
  ASSERT_TRUE(nvrtc) << nvrtc.error().message;
  std::map<std::string, std::set<std::string>> seen; // texts by architecture: small kernels repeat
  std::set<std::string> names;
  for (const Row &row : kRows) {
    SCOPED_TRACE(std::string(row.arch) + " " + row.method + " " + row.spec + " " + row.config);
    const Target *target = *findTarget(row.arch);
    Result<std::pair<ProgramImage, std::vector<StageText>>> lowered = lowerProgram(requestOf(row));
    ASSERT_TRUE(lowered) << lowered.error().message;
    int large = 0;
    for (Kernel &kernel : lowered->first.kernels) {
      if (kernel.step != "backward")
        continue;
      names.insert(kernel.name);
      const Built built = builtAs(row, kernel);
      const bool hasRoles = kernel.source.find("release_registers<") != std::string::npos;
      EXPECT_EQ(hasRoles, built.form == kWarpgroups) << kernel.name;
      large += kernel.name == "backward_queries" || kernel.name == "backward_keys";
      if (!seen[row.arch].insert(kernel.source).second)
        continue;
      Result<Nvrtc::Output> output = (*nvrtc)->compile(kernel.source, kernel.name, row.arch);
      ASSERT_TRUE(output) << output.error().message;
      // C7510 to C7520: products of warpgroups that ptxas makes wait for each other.
      EXPECT_EQ(output->log.find("C75"), std::string::npos) << output->log;
      kernel.cubin = output->binary;
      kernel.spillBytes = spillBytes(output->log);
      checkKernel(kernel, *target, built.mostSpilled);
    }
    EXPECT_EQ(large, 2);
  }
  EXPECT_EQ(names, std::set<std::string>({"backward_rows", "backward_marks", "backward_lists",
                                          "backward_places", "backward_queries", "backward_keys",
                                          "backward_join"}));
}

} // namespace
