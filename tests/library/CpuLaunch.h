// Launches of programs on the CPU through the C API, for the tests that judge them.
#pragma once
#include "compiler/driver/Compile.h"
#include "reference/conformance/Append.h"
#include "reference/methods/MethodAxes.h"
#include "runtime/api/winnow.h"
#include <algorithm>
#include <gtest/gtest.h>
#include <limits>

namespace winnow {

inline Result<reference::Method> axes(const std::string &method, const Spec &spec) {
  WINNOW_TRY(MethodInfo info, loadMethod(method));
  return axesOfText(info.text, info.file, spec);
}

inline tl::unexpected<Error> said(winnow_status status) {
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
    auto args = argsOf<winnow_launch_args>(problem, shape, answer);
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
    auto args = argsOf<winnow_backward_args>(problem, shape, answer);
    args.dout = inputs.dout.data();
    args.dq = answer.dq.data();
    args.dk = answer.dk.data();
    args.dv = answer.dv.data();
    const winnow_status status = winnow_launch_backward(program, &args, nullptr);
    return status == WINNOW_OK ? Status() : Status(said(status));
  }

  /// What a launch and one of its gradients have in common.
  template <class Args>
  static Args argsOf(const reference::Problem &problem, const winnow_shape &shape,
                     CaseAnswer &answer) {
    Args args{};
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
    return args;
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

} // namespace winnow
