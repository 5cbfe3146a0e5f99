// Programs on the CPU through the C API, judged as every other implementation is: cases of the
// conformance table against the fp64 reference, in layouts of engines, with rows that the host
// keeps; and what the C API promises beside the numbers.
#include "tests/library/CpuLaunch.h"
#include <tuple>

using namespace winnow;

namespace {

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
