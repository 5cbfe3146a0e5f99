// Programs on the CPU through the C API, judged as every other implementation is: cases of the
// conformance table against the fp64 reference, in layouts of engines, with rows that the host
// keeps; and what the C API promises beside the numbers.
#include "compiler/driver/Compile.h"
#include "reference/conformance/Append.h"
#include "reference/methods/MethodAxes.h"
#include "runtime/api/winnow.h"
#include <algorithm>
#include <gtest/gtest.h>
#include <limits>
#include <tuple>

using namespace winnow;

namespace {

Result<reference::Method> axes(const std::string &method, const Spec &spec) {
  WINNOW_TRY(MethodInfo info, loadMethod(method));
  return axesOfText(info.text, info.file, spec);
}

tl::unexpected<Error> said(winnow_status status) {
  return fail(static_cast<ErrorKind>(status), winnow_last_error());
}

class CpuLaunch : public testing::Test {
protected:
  void SetUp() override {
    const winnow_compiler *compiler = nullptr;
    ASSERT_EQ(winnow_compiler_load(WINNOW_COMPILER_LIBRARY, &compiler), WINNOW_OK)
        << winnow_last_error();
    winnow_engine_options options{};
    options.struct_size = sizeof(options);
    options.cache_dir = "";
    options.compiler = compiler;
    options.driver_path = "/nonexistent/libcuda.so.1";
    ASSERT_EQ(winnow_engine_create(&options, &engine), WINNOW_OK) << winnow_last_error();
  }
  void TearDown() override {
    winnow_program_destroy(program);
    winnow_engine_destroy(engine);
  }

  winnow_status prepare(const std::string &method, const Spec &from) {
    std::string params;
    for (const auto &[name, value] : from.params)
      params.append(params.empty() ? "" : ",").append(name).append("=").append(value);
    winnow_spec spec{};
    spec.struct_size = sizeof(spec);
    spec.method = method.c_str();
    spec.heads = from.heads;
    spec.kv_heads = from.kvHeads;
    spec.head_dim = from.headDim;
    spec.value_dim = from.valueDim;
    spec.block = from.block;
    spec.topk = from.topk;
    spec.dtype = from.dtype == Dtype::BF16 ? WINNOW_BF16 : WINNOW_FP16;
    spec.scale = from.scale;
    spec.params = params.c_str();
    spec.paged = from.paged;
    spec.backward = from.backward;
    winnow_program_destroy(program);
    return winnow_prepare(engine, &spec, WINNOW_CPU, &program, nullptr);
  }

  /// One launch over a problem's tensors, or over the same as an engine has them.
  static Result<CaseAnswer> launch(const winnow_program *program, const reference::Problem &problem,
                                   const StoredTensors *stored, const int32_t *ids, int phase) {
    const size_t tokens = problem.totalQ(), heads = problem.heads;
    CaseAnswer answer;
    answer.out.assign(stored ? stored->outElements : tokens * heads * problem.valueWidth(), 0xffff);
    answer.lse.assign(tokens * heads, std::numeric_limits<float>::quiet_NaN());
    answer.ids.assign(tokens * winnow_program_select_heads(program) * problem.topk, 0x7f7f7f7f);
    if (ids)
      std::copy_n(ids, answer.ids.size(), answer.ids.begin());
    winnow_shape shape = shapeOf(problem);
    winnow_launch_args args{};
    args.struct_size = sizeof(args);
    args.q = problem.q;
    args.k = problem.k;
    args.v = problem.v;
    args.out = answer.out.data();
    args.lse = answer.lse.data();
    args.ids = answer.ids.data();
    args.cu_q = problem.cuQ.data();
    args.cu_k = problem.cuK.data();
    args.shape = &shape;
    args.phase = phase;
    if (stored)
      place(*stored, args, answer);
    size_t workspace = 1;
    winnow_status status = winnow_workspace_size(program, &shape, &workspace);
    if (status != WINNOW_OK || workspace != 0)
      return said(status);
    status = winnow_launch(program, &args, nullptr);
    if (status != WINNOW_OK)
      return said(status);
    if (stored && phase != WINNOW_APPEND) {
      WINNOW_TRY(answer.out, packOutput(problem, *stored, answer.out, 0xffff));
    }
    return answer;
  }

  /// The gradients of a launch, into its answer.
  static Status launchBackward(const winnow_program *program, const CaseInputs &inputs,
                               CaseAnswer &answer) {
    const reference::Problem &problem = inputs.problem;
    winnow_shape shape = shapeOf(problem);
    answer.dq.assign(inputs.q.size(), 0xffff);
    answer.dk.assign(size_t(shape.total_k) * problem.kvHeads * problem.headDim, 0xffff);
    answer.dv.assign(size_t(shape.total_k) * problem.kvHeads * problem.valueWidth(), 0xffff);
    winnow_backward_args args{};
    args.struct_size = sizeof(args);
    args.q = problem.q;
    args.k = problem.k;
    args.v = problem.v;
    args.out = answer.out.data();
    args.lse = answer.lse.data();
    args.ids = answer.ids.data();
    args.dout = inputs.dout.data();
    args.dq = answer.dq.data();
    args.dk = answer.dk.data();
    args.dv = answer.dv.data();
    args.cu_q = problem.cuQ.data();
    args.cu_k = problem.cuK.data();
    args.shape = &shape;
    const winnow_status status = winnow_launch_backward(program, &args, nullptr);
    return status == WINNOW_OK ? Status() : Status(said(status));
  }

  static winnow_shape shapeOf(const reference::Problem &problem) {
    winnow_shape shape{};
    shape.struct_size = sizeof(shape);
    shape.batch = static_cast<int32_t>(problem.cuQ.size()) - 1;
    shape.total_q = problem.totalQ();
    shape.total_k = problem.cuK.back();
    for (int s = 0; s < shape.batch; ++s) {
      shape.max_q = std::max(shape.max_q, problem.cuQ[s + 1] - problem.cuQ[s]);
      shape.max_k = std::max(shape.max_k, problem.cuK[s + 1] - problem.cuK[s]);
    }
    return shape;
  }

  static void place(const StoredTensors &stored, winnow_launch_args &args, CaseAnswer &answer) {
    const TensorLayout &layout = stored.layout;
    args.q = stored.q.data();
    args.k = stored.keyValues.data() + stored.k;
    args.v = stored.keyValues.data() + stored.v;
    std::copy_n(layout.qStride, 2, args.q_stride);
    std::copy_n(layout.outStride, 2, args.out_stride);
    std::copy_n(layout.kStride, 3, args.k_stride);
    std::copy_n(layout.vStride, 3, args.v_stride);
    args.seq_k = stored.seqK.data();
    args.page_table = stored.table.empty() ? nullptr : stored.table.data();
    args.page_table_stride = layout.pageTableStride;
    args.k_begin = stored.kBegin.empty() ? nullptr : stored.kBegin.data();
    args.page_size = layout.pageSize;
    args.rows_table = stored.rowsTable.empty() ? nullptr : stored.rowsTable.data();
    args.rows_table_stride = layout.rowsTableStride;
    for (int i = 0; i < kMostRows; ++i) {
      answer.rows[i] = stored.rows[i];
      args.rows[i] = answer.rows[i].empty() ? nullptr : answer.rows[i].data();
      std::copy_n(layout.rowsStride[i], 3, args.rows_stride[i]);
    }
  }

  /// Runs a case of the table as the C API would be used for it: in one launch, or by phases.
  void expectPasses(const ConformanceCase &test, bool byPhases) {
    ASSERT_EQ(prepare(test.method, test.spec), WINNOW_OK) << winnow_last_error();
    const CaseRunner run = [&](const ConformanceCase &,
                               const CaseInputs &inputs) -> Result<CaseAnswer> {
      StoredTensors stored;
      const StoredTensors *place = nullptr;
      if (!test.layout.empty()) {
        WINNOW_TRY(const Layout layout, parseLayout(test.layout));
        stored = storeTensors(inputs.problem, layout, test.pageSize, test.seed, test.pageGap);
        place = &stored;
      }
      if (test.backward) {
        const bool given = test.givenIds;
        WINNOW_TRY(CaseAnswer answer,
                   launch(program, inputs.problem, place, given ? inputs.ids.data() : nullptr,
                          given ? WINNOW_ATTEND : WINNOW_ALL));
        WINNOW_CHECK(launchBackward(program, inputs, answer));
        return answer;
      }
      if (test.givenIds)
        return launch(program, inputs.problem, place, inputs.ids.data(), WINNOW_ATTEND);
      if (!byPhases)
        return launch(program, inputs.problem, place, nullptr, WINNOW_ALL);
      WINNOW_TRY(const CaseAnswer selected,
                 launch(program, inputs.problem, place, nullptr, WINNOW_SELECT));
      return launch(program, inputs.problem, place, selected.ids.data(), WINNOW_ATTEND);
    };
    Result<CaseResult> result = runCase(test, axes, run);
    ASSERT_TRUE(result) << test.name << ": " << result.error().message;
    EXPECT_TRUE(result->passed) << test.name << ": " << result->text;
  }

  winnow_engine *engine = nullptr;
  winnow_program *program = nullptr;
};

TEST_F(CpuLaunch, CasesOfTheTable) {
  const std::vector<std::string> names = {
      "tail_of_the_stride", "empty_sequences",    "history_unaligned",  "group_16_fp16",
      "adversarial_ids",    "dense_group_1_fp16", "per_query_head",     "value_dim_96_group_6",
      "paged_halves_16",    "paged_tokens_1",     "paged_rows_padded",  "paged_given_ids",
      "paged_dense_length", "backward_lengths",   "backward_given_ids", "backward_dense"};
  const auto cases = conformanceCases();
  ASSERT_TRUE(cases);
  size_t found = 0;
  for (const ConformanceCase &test : *cases)
    if (std::find(names.begin(), names.end(), test.name) != names.end()) {
      expectPasses(test, /*byPhases=*/found % 2 == 1 && test.method != "dense");
      ++found;
    }
  EXPECT_EQ(found, names.size());
}

TEST_F(CpuLaunch, RowsThatTheHostKeeps) {
  int tried = 0;
  for (const ConformanceCase &test : appendCases()) {
    if (test.large || tried == 6)
      continue;
    ++tried;
    ASSERT_EQ(prepare(test.method, test.spec), WINNOW_OK) << winnow_last_error();
    const auto method = axes(test.method, test.spec);
    ASSERT_TRUE(method);
    const std::vector<SummaryShape> summaries = summariesOf(*method);
    ASSERT_EQ(winnow_rows_count(program), static_cast<int32_t>(summaries.size()));
    for (size_t i = 0; i < summaries.size(); ++i) {
      int32_t window = 0, stride = 0;
      ASSERT_EQ(winnow_rows_layout(program, static_cast<int32_t>(i), &window, &stride), WINNOW_OK);
      EXPECT_EQ(window, summaries[i].window);
      EXPECT_EQ(stride, summaries[i].stride);
    }
    auto result = runAppendCase(
        test, axes, [&](const reference::Problem &problem, const StoredTensors &stored) {
          return launch(program, problem, &stored, nullptr, WINNOW_APPEND);
        });
    ASSERT_TRUE(result) << test.name << ": " << result.error().message;
    EXPECT_TRUE(result->passed) << test.name << ": " << result->text;
  }
  EXPECT_EQ(tried, 6);
}

Spec smallSpec() {
  Spec spec;
  spec.heads = 4;
  spec.kvHeads = 2;
  spec.headDim = 64;
  spec.topk = 40;
  return spec;
}

TEST_F(CpuLaunch, ProgramsArePreparedOnceAndSealed) {
  ASSERT_EQ(prepare("dense", smallSpec()), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(std::string(winnow_program_key(program)).size(), 64u);
  EXPECT_STREQ(winnow_program_config(program), "");
  winnow_rung rung = WINNOW_TUNED_EXACT;
  EXPECT_EQ(winnow_program_rung(program, WINNOW_ATTEND, &rung), WINNOW_OK);
  EXPECT_EQ(rung, WINNOW_TUNED_DEFAULT);
  ASSERT_EQ(prepare("dense", smallSpec()), WINNOW_OK);
  EXPECT_EQ(winnow_engine_seal(engine), WINNOW_OK);
  EXPECT_EQ(prepare("dense", smallSpec()), WINNOW_OK);
  Spec other = smallSpec();
  other.kvHeads = 4;
  EXPECT_EQ(prepare("dense", other), WINNOW_NOT_READY);
  winnow_counters counters{};
  counters.struct_size = sizeof(counters);
  ASSERT_EQ(winnow_engine_counters(engine, &counters), WINNOW_OK);
  EXPECT_EQ(counters.builds, 1u);
  EXPECT_EQ(counters.memory_hits, 2u);
  EXPECT_EQ(counters.refused, 1u);
}

TEST_F(CpuLaunch, ListsAndFindServeTheCpuToo) {
  winnow_spec specs[3]{};
  for (winnow_spec &spec : specs) {
    spec.struct_size = sizeof(spec);
    spec.method = "dense";
    spec.heads = spec.kv_heads = 2;
    spec.head_dim = 64;
  }
  specs[1].head_dim = 24;
  specs[2].heads = 4;
  winnow_program *programs[3] = {};
  EXPECT_EQ(winnow_prepare_list(engine, specs, 3, WINNOW_CPU, programs), WINNOW_UNSUPPORTED);
  EXPECT_EQ(std::string(winnow_last_error()).find("specs[1]: "), 0u) << winnow_last_error();
  EXPECT_TRUE(programs[0] && !programs[1] && programs[2]);
  winnow_program *found = nullptr;
  EXPECT_EQ(winnow_find(engine, &specs[2], WINNOW_CPU, &found), WINNOW_OK) << winnow_last_error();
  EXPECT_STREQ(winnow_program_key(found), winnow_program_key(programs[2]));
  winnow_program_destroy(found);
  EXPECT_EQ(winnow_find(engine, &specs[1], WINNOW_CPU, &found), WINNOW_NOT_READY);
  for (winnow_program *each : programs)
    winnow_program_destroy(each);
}

TEST_F(CpuLaunch, DenseLengthIsThatOfTheLaunch) {
  Spec spec = smallSpec();
  spec.params["dense_len"] = "auto_700_1x5000_4x3000";
  ASSERT_EQ(prepare("infllm_v2", spec), WINNOW_OK) << winnow_last_error();
  int32_t keys = -1;
  for (auto [batch, maxQ, wanted] :
       {std::tuple(1, 1, 5000), {4, 1, 3000}, {4, 16, 3000}, {1, 17, 700}}) {
    EXPECT_EQ(winnow_program_dense_length(program, batch, maxQ, &keys), WINNOW_OK);
    EXPECT_EQ(keys, wanted) << batch << " sequences, " << maxQ << " queries";
  }
  spec.params["dense_len"] = "4096";
  ASSERT_EQ(prepare("infllm_v2", spec), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(winnow_program_dense_length(program, 1, 1, &keys), WINNOW_OK);
  EXPECT_EQ(keys, 0);
}

TEST_F(CpuLaunch, ProgramsOutliveTheirEngine) {
  ASSERT_EQ(prepare("dense", smallSpec()), WINNOW_OK);
  winnow_engine_destroy(engine);
  engine = nullptr;
  EXPECT_EQ(winnow_program_select_heads(program), 0);
}

TEST_F(CpuLaunch, BadCallsAreRefusedAsOnAGpu) {
  EXPECT_EQ(prepare("no_such_method", smallSpec()), WINNOW_INVALID);
  ASSERT_EQ(prepare("infllm_v2", smallSpec()), WINNOW_OK) << winnow_last_error();
  winnow_shape shape{sizeof(shape), 1, 4, 4, 4, 4};
  winnow_launch_args args{};
  args.struct_size = sizeof(args);
  args.shape = &shape;
  EXPECT_EQ(winnow_launch(program, &args, nullptr), WINNOW_INVALID);
  EXPECT_STREQ(winnow_last_error(), "launch: q is null");
  shape.batch = 0;
  EXPECT_EQ(winnow_launch(program, &args, nullptr), WINNOW_INVALID);
  winnow_program *none = nullptr;
  EXPECT_EQ(winnow_prepare_image(engine, "x.image", WINNOW_CPU, &none), WINNOW_INVALID);
  winnow_spec spec{};
  spec.struct_size = sizeof(spec);
  spec.method = "dense";
  spec.heads = spec.kv_heads = 2;
  EXPECT_EQ(winnow_prepare(engine, &spec, 0, &none, nullptr), WINNOW_DEVICE_FAILED);
  EXPECT_NE(std::string(winnow_last_error()).find("no CUDA driver"), std::string::npos);
  spec.arch = "sm_80";
  EXPECT_EQ(winnow_prepare(engine, &spec, WINNOW_CPU, &none, nullptr), WINNOW_INVALID);
}

TEST_F(CpuLaunch, GradientsAreRefusedInWords) {
  ASSERT_EQ(prepare("dense", smallSpec()), WINNOW_OK) << winnow_last_error();
  winnow_shape shape{sizeof(shape), 1, 0, 0, 4, 4};
  winnow_backward_args args{};
  args.struct_size = sizeof(args);
  args.shape = &shape;
  const int32_t lengths[2] = {};
  args.cu_q = args.cu_k = lengths;
  EXPECT_EQ(winnow_launch_backward(program, &args, nullptr), WINNOW_INVALID);
  EXPECT_NE(std::string(winnow_last_error()).find("prepare it with `backward` set"),
            std::string::npos)
      << winnow_last_error();
  Spec spec = smallSpec();
  spec.backward = true;
  ASSERT_EQ(prepare("dense", spec), WINNOW_OK) << winnow_last_error();
  size_t bytes = 1;
  EXPECT_EQ(winnow_backward_workspace_size(program, &shape, &bytes), WINNOW_OK);
  EXPECT_EQ(bytes, 0u);
  EXPECT_EQ(winnow_launch_backward(program, &args, nullptr), WINNOW_OK) << winnow_last_error();
  shape.total_q = shape.max_q = 4;
  EXPECT_EQ(winnow_launch_backward(program, &args, nullptr), WINNOW_INVALID);
  EXPECT_STREQ(winnow_last_error(), "launch: q is null");
  args.struct_size = 8;
  EXPECT_EQ(winnow_launch_backward(program, &args, nullptr), WINNOW_INVALID);
  spec.paged = true;
  EXPECT_EQ(prepare("dense", spec), WINNOW_INVALID);
  EXPECT_NE(std::string(winnow_last_error()).find("backward is for packed tensors"),
            std::string::npos);
}

TEST(CpuLaunchAlone, WithoutTheCompilerLibraryItSaysWhatToLoad) {
  winnow_engine_options options{};
  options.struct_size = sizeof(options);
  options.cache_dir = "";
  options.driver_path = WINNOW_FAKE_CUDA;
  winnow_engine *engine = nullptr;
  ASSERT_EQ(winnow_engine_create(&options, &engine), WINNOW_OK) << winnow_last_error();
  winnow_spec spec{};
  spec.struct_size = sizeof(spec);
  spec.method = "dense";
  spec.heads = spec.kv_heads = 2;
  winnow_program *program = nullptr;
  EXPECT_EQ(winnow_prepare(engine, &spec, WINNOW_CPU, &program, nullptr), WINNOW_UNSUPPORTED);
  EXPECT_NE(std::string(winnow_last_error()).find("winnow_compiler_load"), std::string::npos);
  winnow_engine_destroy(engine);
}

} // namespace
