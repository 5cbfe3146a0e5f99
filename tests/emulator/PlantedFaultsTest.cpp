// Faults planted in printed kernels, one at a time: the emulator, or the comparison with the
// answers of the kernels as they are, must find each of them. What the emulator finds it names by
// kernel, line of the printed text and lanes.
#include "compiler/cuda/EmulatedCode.h"
#include "compiler/driver/Compile.h"
#include "reference/Half.h"
#include "reference/conformance/Case.h"
#include "runtime/device/DeviceMemory.h"
#include "runtime/program/Launcher.h"
#include <cmath>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <map>

using namespace winnow;

namespace {

struct Planted {
  const char *name, *arch, *kernel;
  const char *from, *to; ///< of the printed text; the first place
  const char *finds;     ///< part of the emulator's words; "" where the answers are wrong
};

// NOLINTNEXTLINE(readability-identifier-naming): the name that GoogleTest looks for
void PrintTo(const Planted &planted, std::ostream *out) { *out << planted.name; }

constexpr Planted kPlanted[] = {
    {"missing_barrier", "sm_80", "attend",
     "    if (warp == 0) {\n      compact_list(list, wanted, tiles);\n    }\n    sync_threads();\n",
     "    if (warp == 0) {\n      compact_list(list, wanted, tiles);\n    }\n", "shared memory"},
    {"missing_barrier_in_score", "sm_80", "score", "    wait_copies();\n    sync_threads();\n",
     "    wait_copies();\n", "with no barrier between them"},
    {"barrier_not_reached_by_all", "sm_80", "attend", "    sync_threads();\n",
     "    if (warp != 1) sync_threads();\n", "shared memory"},
    {"unwaited_copy", "sm_80", "score", "    wait_copies();\n", "", "has waited for its copy"},
    {"stage_reused_too_early", "sm_80", "attend", "wait_empty(barriers, cursor);", "",
     "shared memory"},
    {"stage_reused_too_early_by_bulk_copies", "sm_90a", "attend", "wait_empty(barriers, cursor);",
     "", "shared memory"},
    {"swapped_arrivals", "sm_90a", "score", "init_barriers(barriers, 1, releases);",
     "init_barriers(barriers, releases, 1);", "deadlock"},
    {"warp_leaves_wgmma", "sm_90a", "score",
     "start_abt(logits, stage(queries, query_cursor), stage(summaries, cursor));",
     "if (warp_index() % 4 != 1) "
     "start_abt(logits, stage(queries, query_cursor), stage(summaries, cursor));",
     "warpgroup"},
    {"warp_leaves_the_wait", "sm_90a", "attend", "wait_products<0>(logits);",
     "if (warp_index() % 4 != 1) wait_products<0>(logits);", "warpgroup"},
    {"sums_read_before_the_wait", "sm_90a", "score", "wait_products<0>(logits);", "", ""},
    {"mask_off_by_one", "sm_80", "attend", "mask_causal(logits, rows, first_key);",
     "mask_causal(logits, rows, first_key - 1);", ""},
    {"causal_mask_left_out_on_warpgroups", "sm_90a", "attend", "mask_step(logits, rows, step);", "",
     ""},
    {"wrong_swizzle", "sm_90a", "score",
     "start_abt(logits, stage(queries, query_cursor), stage(summaries, cursor));",
     "const auto left = stage(queries, query_cursor);\n"
     "const auto right = stage(summaries, cursor);\n"
     "for (int s = 0; s < kDim / 16; ++s)\n"
     "  wgmma_shared<bf16>(logits.value,\n"
     "                     matrix_descriptor(descriptor_start(left.base, 16), s * 32),\n"
     "                     matrix_descriptor(descriptor_start(right.base, 16), (s ^ 1) * 32), s > "
     "0);\n"
     "wgmma_commit();",
     ""},
    {"outside_the_tensor", "sm_80", "attend",
     "load_query<kHeads>(query, params.q, rows, first_head);",
     "load_query<kHeads>(query, static_cast<const bf16 *>(params.q) + (1 << 22), rows, "
     "first_head);",
     "outside every tensor"},
};

class PlantedFaults : public testing::TestWithParam<Planted> {
protected:
  static ConformanceCase problem() {
    ConformanceCase test;
    test.method = "infllm_v2";
    test.spec.heads = 4, test.spec.kvHeads = 1, test.spec.headDim = 64, test.spec.topk = 4;
    test.spec.params = {{"init", "1"}, {"local", "1"}};
    test.sequences = {{70, 900}, {33, 33}};
    test.seed = 5;
    return test;
  }

  static Result<ProgramImage> lowered(const char *arch) {
    CompileRequest request;
    request.method = problem().method, request.spec = problem().spec, request.arch = arch;
    auto both = lowerProgram(request);
    if (!both)
      return tl::unexpected(both.error());
    both->first.key = std::string(64, '0');
    return both->first;
  }

  /// The program of an architecture as it is, compiled once.
  static const Result<ProgramImage> &whole(const std::string &arch) {
    static auto &images = *new std::map<std::string, Result<ProgramImage>>;
    auto found = images.find(arch);
    if (found == images.end()) {
      Result<ProgramImage> image = lowered(arch.c_str());
      for (size_t i = 0; image && i < image->kernels.size(); ++i)
        if (Status status = compile(image->kernels[i]); !status)
          image = tl::unexpected(status.error());
      found = images.emplace(arch, std::move(image)).first;
    }
    return found->second;
  }

  static Status compile(Kernel &kernel) {
    Result<Nvrtc::Output> code = compileForEmulator(kernel.source, kernel.name);
    if (!code)
      return tl::unexpected(code.error());
    kernel.cubin = code->binary;
    return {};
  }

  /// Runs an image; the answers, or what went wrong.
  static Result<std::vector<uint16_t>> run(const ProgramImage &image) {
    Result<std::shared_ptr<Driver>> driver = Driver::open(WINNOW_EMULATOR);
    if (!driver)
      return tl::unexpected(driver.error());
    LoadOptions options;
    for (const DeviceInfo &device : (*driver)->devices())
      if (device.name.find(image.arch) != std::string::npos)
        options.device = device.index;
    if (Status status = (*driver)->makeCurrent(options.device); !status)
      return tl::unexpected(status.error());
    auto program =
        LoadedProgram::load(std::make_shared<const ProgramImage>(image), *driver, options);
    if (!program)
      return tl::unexpected(program.error());
    CaseInputs inputs = makeInputs(problem(), 1);
    const reference::Problem &p = inputs.problem;
    std::vector<DeviceBuffer> buffers;
    auto upload = [&](const void *bytes, size_t size) {
      buffers.push_back(*DeviceBuffer::allocate(*driver, size));
      if (bytes)
        EXPECT_TRUE(buffers.back().upload(bytes, size));
      return buffers.back().data();
    };
    LaunchArgs args;
    args.shape.batch = static_cast<int>(p.cuQ.size()) - 1;
    args.shape.totalQ = p.cuQ.back(), args.shape.totalK = p.cuK.back();
    args.shape.maxQ = 70, args.shape.maxK = 900;
    args.q = upload(inputs.q.data(), inputs.q.size() * 2);
    args.k = upload(inputs.k.data(), inputs.k.size() * 2);
    args.v = upload(inputs.v.data(), inputs.v.size() * 2);
    std::vector<uint16_t> out(inputs.q.size());
    args.out = upload(nullptr, out.size() * 2);
    const size_t answer = buffers.size() - 1;
    args.ids = static_cast<int *>(upload(nullptr, size_t(p.totalQ()) * p.topk * 4));
    args.cuQ = static_cast<const int *>(upload(p.cuQ.data(), p.cuQ.size() * 4));
    args.cuK = static_cast<const int *>(upload(p.cuK.data(), p.cuK.size() * 4));
    const size_t workspace = *(*program)->workspaceSize(args.shape);
    void *scratch = upload(nullptr, workspace);
    if (Status status = (*program)->launch(args, nullptr, scratch, workspace); !status)
      return tl::unexpected(status.error());
    EXPECT_TRUE(buffers[answer].download(out.data(), out.size() * 2));
    return out;
  }
};

TEST_P(PlantedFaults, AreFound) {
  const Planted &planted = GetParam();
  Result<ProgramImage> image = whole(planted.arch);
  ASSERT_TRUE(image) << image.error().message;
  Result<std::vector<uint16_t>> right = run(*image);
  ASSERT_TRUE(right) << right.error().message;
  bool changed = false;
  for (Kernel &kernel : image->kernels)
    if (kernel.name == planted.kernel) {
      const size_t at = kernel.source.find(planted.from);
      ASSERT_NE(at, std::string::npos) << "the printed text has changed:\n" << kernel.source;
      kernel.source.replace(at, std::string(planted.from).size(), planted.to);
      Status status = compile(kernel);
      ASSERT_TRUE(status) << status.error().message;
      changed = true;
    }
  ASSERT_TRUE(changed);
  Result<std::vector<uint16_t>> wrong = run(*image);
  if (!wrong) {
    const std::string &words = wrong.error().message;
    fmt::print("{}: {}\n", planted.name, words);
    EXPECT_NE(words.find(planted.finds), std::string::npos) << words;
    EXPECT_NE(words.find(fmt::format("kernel {}", planted.kernel)), std::string::npos) << words;
    EXPECT_NE(words.find(fmt::format("{}.cu:", planted.kernel)), std::string::npos) << words;
    EXPECT_NE(words.find("lane"), std::string::npos) << words;
    return;
  }
  EXPECT_STREQ(planted.finds, "") << "nothing was found";
  double difference = 0;
  for (size_t i = 0; i < right->size(); ++i)
    difference = std::max<double>(difference, std::isnan(reference::fromBf16((*wrong)[i]))
                                                  ? INFINITY
                                                  : std::fabs(reference::fromBf16((*wrong)[i]) -
                                                              reference::fromBf16((*right)[i])));
  EXPECT_GT(difference, 0.05) << "the answers do not change";
}

INSTANTIATE_TEST_SUITE_P(Emulator, PlantedFaults, testing::ValuesIn(kPlanted),
                         [](const auto &info) { return std::string(info.param.name); });

} // namespace
