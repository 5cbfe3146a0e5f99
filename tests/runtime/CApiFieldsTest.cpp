// Each field of the C API's structs arrives where it belongs: structs whose fields all differ, so
// that two of them that change places are noticed, as is one that is told for another.
#include "CApiFixture.h"
#include "TunedSamples.h"
#include <set>

using namespace winnow;
using namespace winnow::test;

namespace {

/// What a host's compiler was asked for, with texts of its own.
struct Asked {
  winnow_spec spec{};
  std::string method, params, config, arch;

  void take(const winnow_spec *request) {
    spec = *request;
    method = request->method, params = request->params;
    config = request->config, arch = request->arch;
  }
};

/// A compiler that remembers what each of its functions was asked for.
struct RememberingCompiler {
  Asked key, build, check;

  winnow_compiler interface() {
    winnow_compiler c{};
    c.struct_size = sizeof(c);
    c.user = this;
    c.key = [](void *user, const winnow_spec *request, winnow_sink sink, void *context) -> int {
      static_cast<RememberingCompiler *>(user)->key.take(request);
      const std::string key = sampleImage(request->method).key;
      sink(context, key.data(), key.size());
      return WINNOW_OK;
    };
    c.build = [](void *user, const winnow_spec *request, winnow_sink sink, void *context) -> int {
      static_cast<RememberingCompiler *>(user)->build.take(request);
      const std::string bytes = *serializeImage(sampleImage(request->method));
      sink(context, bytes.data(), bytes.size());
      return WINNOW_OK;
    };
    c.check = [](void *user, const winnow_spec *request, winnow_sink, void *) -> int {
      static_cast<RememberingCompiler *>(user)->check.take(request);
      return WINNOW_OK;
    };
    return c;
  }
};

class Fields : public testing::Test {
protected:
  void SetUp() override { resetFakeDriver(kFake); }
  void TearDown() override { winnow_engine_destroy(engine); }

  winnow_engine *open() {
    winnow_engine_destroy(engine);
    options.struct_size = sizeof(options);
    options.cache_dir = cache.c_str();
    options.compiler = &hook;
    options.driver_path = kFake;
    EXPECT_EQ(winnow_engine_create(&options, &engine), WINNOW_OK) << winnow_last_error();
    return engine;
  }
  /// A spec of which no two numbers are equal.
  static winnow_spec distinct() {
    winnow_spec s{};
    s.struct_size = sizeof(s);
    s.method = "m";
    s.heads = 24, s.kv_heads = 6, s.head_dim = 96, s.value_dim = 64, s.block = 32, s.topk = 7;
    s.dtype = WINNOW_FP16;
    s.scale = 0.125;
    s.params = "window=48,init=2";
    s.config = "attend_stages=3,score_chunk_mib=16";
    s.arch = "sm_80";
    s.expected_tokens = 7000, s.expected_overlap = 5, s.expected_batch = 11;
    return s;
  }
  static void expectDistinct(const Asked &asked) {
    const winnow_spec given = distinct();
    EXPECT_EQ(asked.spec.struct_size, sizeof(winnow_spec));
    EXPECT_EQ(asked.method, "m");
    EXPECT_EQ(asked.spec.heads, given.heads);
    EXPECT_EQ(asked.spec.kv_heads, given.kv_heads);
    EXPECT_EQ(asked.spec.head_dim, given.head_dim);
    EXPECT_EQ(asked.spec.value_dim, given.value_dim);
    EXPECT_EQ(asked.spec.block, given.block);
    EXPECT_EQ(asked.spec.topk, given.topk);
    EXPECT_EQ(asked.spec.dtype, given.dtype);
    EXPECT_EQ(asked.spec.scale, given.scale);
    EXPECT_EQ(asked.params, "init=2,window=48");
    EXPECT_EQ(Config::parse(asked.config)->attendStages, 3);
    EXPECT_EQ(Config::parse(asked.config)->scoreChunkMiB, 16);
    EXPECT_EQ(asked.arch, "sm_80");
    EXPECT_EQ(asked.spec.expected_tokens, given.expected_tokens);
    EXPECT_EQ(asked.spec.expected_overlap, given.expected_overlap);
    EXPECT_EQ(asked.spec.expected_batch, given.expected_batch);
  }

  TempDir dir;
  std::string cache = dir / "cache";
  RememberingCompiler compiler;
  winnow_compiler hook = compiler.interface();
  winnow_engine_options options{};
  winnow_engine *engine = nullptr;
};

TEST_F(Fields, EveryFieldOfASpecReachesTheHostsCompiler) {
  const winnow_spec s = distinct();
  winnow_program *program = nullptr;
  ASSERT_EQ(winnow_prepare(open(), &s, 0, &program, nullptr), WINNOW_OK) << winnow_last_error();
  expectDistinct(compiler.key);
  expectDistinct(compiler.build);
  winnow_program_destroy(program);
}

TEST_F(Fields, DefaultsAreFilledInBeforeTheHostsCompilerIsAsked) {
  winnow_spec s{};
  s.struct_size = sizeof(s);
  s.method = "m";
  s.heads = 8, s.kv_heads = 2;
  winnow_program *program = nullptr;
  ASSERT_EQ(winnow_prepare(open(), &s, 0, &program, nullptr), WINNOW_OK) << winnow_last_error();
  const winnow_spec &asked = compiler.build.spec;
  EXPECT_EQ(asked.head_dim, 128);
  EXPECT_EQ(asked.value_dim, 128);
  EXPECT_EQ(asked.block, 64);
  EXPECT_EQ(asked.topk, 96);
  EXPECT_EQ(asked.dtype, WINNOW_BF16);
  EXPECT_EQ(asked.scale, 0);
  EXPECT_EQ(compiler.build.params, "");
  EXPECT_EQ(compiler.build.arch, "sm_80");
  winnow_program_destroy(program);
}

TEST_F(Fields, TokensAndOverlapFindTheRecordThatWasMadeForThem) {
  TuningKey key = sampleKey();
  key.spec.valueDim = 128;
  key.tokens = 131072, key.overlap = 1; // in each other's place: 2048 tokens, overlap 128
  writeBytes(dir / "tuned.jsonl", recordLine(sampleRecord(key, 3)));
  const std::string file = dir / "tuned.jsonl";
  options.tuned_files = file.c_str();
  winnow_spec s{};
  s.struct_size = sizeof(s);
  s.method = "m";
  s.heads = 32, s.kv_heads = 2;
  s.expected_tokens = 131072, s.expected_overlap = 1;
  winnow_program *program = nullptr;
  ASSERT_EQ(winnow_prepare(open(), &s, 0, &program, nullptr), WINNOW_OK) << winnow_last_error();
  winnow_rung rung{};
  ASSERT_EQ(winnow_program_rung(program, WINNOW_ATTEND, &rung), WINNOW_OK);
  EXPECT_EQ(rung, WINNOW_TUNED_EXACT);
  ASSERT_EQ(winnow_program_rung(program, WINNOW_SELECT, &rung), WINNOW_OK);
  EXPECT_EQ(rung, WINNOW_TUNED_DEFAULT);
  EXPECT_EQ(compiler.check.spec.expected_tokens, 131072);
  EXPECT_EQ(compiler.check.spec.expected_overlap, 1);
  EXPECT_EQ(Config::parse(compiler.check.config)->attendStages, 3);
  winnow_program_destroy(program);
}

/// Addresses that nobody reads, each another one.
template <typename T> T *address(int n) {
  return reinterpret_cast<T *>(static_cast<uintptr_t>(0x100000 + 0x1000 * n));
}

TEST_F(Fields, EveryFieldOfALaunchReachesTheKernels) {
  const winnow_spec s = distinct();
  winnow_program *program = nullptr;
  ASSERT_EQ(winnow_prepare(open(), &s, 0, &program, nullptr), WINNOW_OK) << winnow_last_error();
  const winnow_shape shape{sizeof(shape), 3, 64, 96, 40, 80};
  size_t bytes = 0;
  ASSERT_EQ(winnow_workspace_size(program, &shape, &bytes), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(bytes, 96u * 32 + 64 * 2 * 8); // total_k rows, and two scores for each of total_q
  winnow_launch_args args{};
  args.struct_size = sizeof(args);
  args.q = address<void>(1), args.k = address<void>(2), args.v = address<void>(3);
  args.out = address<void>(4), args.lse = address<float>(5), args.ids = address<int32_t>(6);
  args.cu_q = address<int32_t>(7), args.cu_k = address<int32_t>(8);
  args.shape = &shape;
  args.workspace = address<void>(9), args.workspace_bytes = bytes;
  ASSERT_EQ(winnow_launch(program, &args, address<void>(10)), WINNOW_OK) << winnow_last_error();
  const std::vector<FakeLaunch> launches = fakeDriver(kFake).launches;
  ASSERT_EQ(launches.size(), 4u);
  for (const FakeLaunch &launch : launches) {
    const Params &p = launch.params;
    EXPECT_EQ(launch.stream, address<void>(10));
    EXPECT_EQ(p.q, args.q);
    EXPECT_EQ(p.k, args.k);
    EXPECT_EQ(p.v, args.v);
    EXPECT_EQ(p.out, args.out);
    EXPECT_EQ(p.lse, args.lse);
    EXPECT_EQ(p.ids, args.ids);
    EXPECT_EQ(p.cu_q, args.cu_q);
    EXPECT_EQ(p.cu_k, args.cu_k);
    EXPECT_EQ(p.buffer[0], args.workspace);
    EXPECT_EQ(p.batch, 3);
    EXPECT_EQ(p.total_q, 64);
    EXPECT_EQ(p.total_k, 96);
    EXPECT_EQ(p.max_q, 40);
    EXPECT_EQ(p.max_k, 80);
    EXPECT_EQ(p.score_stride, 2);
  }
  args.workspace_bytes = bytes - 1;
  EXPECT_EQ(winnow_launch(program, &args, nullptr), WINNOW_INVALID);
  winnow_program_destroy(program);
}

TEST_F(Fields, EveryFieldOfAPagedLaunchReachesTheKernels) {
  ProgramImage image = sampleImage();
  image.spec.paged = true;
  image.summaries = {{32, 16}, {128, 64}};
  ASSERT_TRUE(saveImageFile(image, dir / "paged.winnow"));
  winnow_program *program = nullptr;
  ASSERT_EQ(winnow_prepare_image(open(), (dir / "paged.winnow").c_str(), 0, &program), WINNOW_OK)
      << winnow_last_error();
  const winnow_shape shape{sizeof(shape), 3, 64, 0, 40, 80};
  winnow_launch_args args{};
  args.struct_size = sizeof(args);
  args.q = args.k = args.v = args.out = args.workspace = address<void>(1);
  args.ids = address<int32_t>(1);
  args.cu_q = address<int32_t>(2);
  args.shape = &shape;
  args.workspace_bytes = 1 << 20;
  args.q_stride[0] = 8, args.q_stride[1] = 16, args.out_stride[0] = 24, args.out_stride[1] = 32;
  args.k_stride[0] = 40, args.k_stride[1] = 48, args.k_stride[2] = 56;
  args.v_stride[0] = 64, args.v_stride[1] = 72, args.v_stride[2] = 80;
  args.seq_k = address<int32_t>(3), args.page_table = address<int32_t>(4);
  args.k_begin = address<int32_t>(5), args.page_table_stride = 9, args.page_size = 16;
  args.rows[0] = address<void>(6), args.rows[1] = address<void>(7);
  for (int i = 0; i < 6; ++i)
    args.rows_stride[i / 3][i % 3] = 88 + 8 * i;
  args.rows_table = address<int32_t>(8), args.rows_table_stride = 10;
  ASSERT_EQ(winnow_launch(program, &args, nullptr), WINNOW_OK) << winnow_last_error();
  const Params &p = fakeDriver(kFake).launches.at(0).params;
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(p.q_stride[i], args.q_stride[i]);
    EXPECT_EQ(p.out_stride[i], args.out_stride[i]);
  }
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(p.k_stride[i], args.k_stride[i]);
    EXPECT_EQ(p.v_stride[i], args.v_stride[i]);
  }
  EXPECT_EQ(p.seq_k, args.seq_k);
  EXPECT_EQ(p.page_table, args.page_table);
  EXPECT_EQ(p.k_begin, args.k_begin);
  EXPECT_EQ(p.page_table_stride, 9);
  EXPECT_EQ(p.page_size, 16);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(p.rows[i], args.rows[i]);
    for (int j = 0; j < 3; ++j)
      EXPECT_EQ(p.rows_stride[i][j], args.rows_stride[i][j]);
  }
  EXPECT_EQ(p.rows_table, args.rows_table);
  EXPECT_EQ(p.rows_table_stride, 10);
  winnow_program_destroy(program);
}

TEST_F(Fields, Fp8KeysReachTheHostsCompilerAndTheirScalesTheKernels) {
  winnow_spec s = distinct();
  s.kv_dtype = WINNOW_KV_FP8_E4M3;
  winnow_program *program = nullptr;
  EXPECT_EQ(winnow_prepare(open(), &s, 0, &program, nullptr), WINNOW_INVALID);
  EXPECT_STREQ(winnow_last_error(), "spec: kv_dtype fp8_e4m3 is for paged programs: set paged too");
  s.kv_dtype = 2;
  EXPECT_EQ(winnow_prepare(open(), &s, 0, &program, nullptr), WINNOW_INVALID);
  EXPECT_STREQ(winnow_last_error(), "spec: 2 is not a winnow_kv_dtype");
  s.kv_dtype = WINNOW_KV_FP8_E4M3, s.paged = 1;
  ASSERT_EQ(winnow_prepare(open(), &s, 0, &program, nullptr), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(compiler.build.spec.kv_dtype, WINNOW_KV_FP8_E4M3);
  winnow_program_destroy(program);

  ProgramImage image = sampleImage();
  image.spec.paged = true, image.spec.kvDtype = KvDtype::Fp8E4m3;
  ASSERT_TRUE(saveImageFile(image, dir / "fp8.winnow"));
  ASSERT_EQ(winnow_prepare_image(open(), (dir / "fp8.winnow").c_str(), 0, &program), WINNOW_OK)
      << winnow_last_error();
  const winnow_shape shape{sizeof(shape), 3, 64, 0, 40, 80};
  winnow_launch_args args{};
  args.struct_size = sizeof(args);
  args.q = args.k = args.v = args.out = args.workspace = address<void>(1);
  args.ids = address<int32_t>(1);
  args.cu_q = args.cu_k = address<int32_t>(2);
  args.shape = &shape;
  args.workspace_bytes = 1 << 20;
  args.k_scale = address<float>(3), args.v_scale = address<float>(4);
  ASSERT_EQ(winnow_launch(program, &args, nullptr), WINNOW_OK) << winnow_last_error();
  const Params &p = fakeDriver(kFake).launches.at(0).params;
  EXPECT_EQ(p.k_scale, args.k_scale);
  EXPECT_EQ(p.v_scale, args.v_scale);
  winnow_program_destroy(program);
}

TEST_F(Fields, WhatAHostKeepsIsToldByIndex) {
  ProgramImage image = sampleImage();
  image.summaries = {{32, 16}, {128, 64}};
  ASSERT_TRUE(saveImageFile(image, dir / "rows.winnow"));
  winnow_program *program = nullptr;
  ASSERT_EQ(winnow_prepare_image(open(), (dir / "rows.winnow").c_str(), 0, &program), WINNOW_OK)
      << winnow_last_error();
  EXPECT_EQ(winnow_rows_count(nullptr), 0);
  EXPECT_EQ(winnow_rows_count(program), 2);
  int32_t window = 0, stride = 0;
  EXPECT_EQ(winnow_rows_layout(program, 1, &window, &stride), WINNOW_OK);
  EXPECT_EQ(window, 128);
  EXPECT_EQ(stride, 64);
  for (int32_t index : {-1, 2}) {
    EXPECT_EQ(winnow_rows_layout(program, index, &window, &stride), WINNOW_INVALID);
    EXPECT_EQ(winnow_last_error(), "index is " + std::to_string(index) +
                                       ": a host may keep 2 summaries of this program");
  }
  EXPECT_EQ(winnow_rows_layout(program, 0, nullptr, &stride), WINNOW_INVALID);
  EXPECT_EQ(winnow_rows_layout(nullptr, 0, &window, &stride), WINNOW_INVALID);
  winnow_program_destroy(program);
}

TEST_F(Fields, DenseLengthIsThatOfTheLaunch) {
  ProgramImage image = sampleImage();
  image.denseLength = "1000 / batch + max_q";
  ASSERT_TRUE(saveImageFile(image, dir / "dense.winnow"));
  winnow_program *program = nullptr;
  ASSERT_EQ(winnow_prepare_image(open(), (dir / "dense.winnow").c_str(), 0, &program), WINNOW_OK)
      << winnow_last_error();
  int32_t keys = -1;
  EXPECT_EQ(winnow_program_dense_length(program, 4, 3, &keys), WINNOW_OK);
  EXPECT_EQ(keys, 253);
  EXPECT_EQ(winnow_program_dense_length(program, 0, 3, &keys), WINNOW_INVALID);
  EXPECT_STREQ(winnow_last_error(), "no launch has 0 sequences of up to 3 queries");
  EXPECT_EQ(winnow_program_dense_length(program, 4, -1, &keys), WINNOW_INVALID);
  EXPECT_EQ(winnow_program_dense_length(program, 4, 3, nullptr), WINNOW_INVALID);
  EXPECT_EQ(winnow_program_dense_length(nullptr, 4, 3, &keys), WINNOW_INVALID);
  winnow_program_destroy(program);
}

TEST_F(Fields, PhasesAreToldApart) {
  const winnow_spec s = distinct();
  winnow_program *program = nullptr;
  ASSERT_EQ(winnow_prepare(open(), &s, 0, &program, nullptr), WINNOW_OK) << winnow_last_error();
  const winnow_shape shape{sizeof(shape), 1, 64, 64, 64, 64};
  winnow_launch_args args{};
  args.struct_size = sizeof(args);
  args.q = args.k = args.v = args.out = args.workspace = address<void>(1);
  args.ids = address<int32_t>(1);
  args.cu_q = args.cu_k = address<int32_t>(1);
  args.shape = &shape;
  args.workspace_bytes = 1 << 20;
  auto kernels = [&](int32_t phase) {
    fakeDriver(kFake).launches.clear();
    args.phase = phase;
    EXPECT_EQ(winnow_launch(program, &args, nullptr), WINNOW_OK) << winnow_last_error();
    std::set<std::string> names;
    for (const FakeLaunch &launch : fakeDriver(kFake).launches)
      names.insert(launch.kernel);
    return names;
  };
  using Names = std::set<std::string>;
  EXPECT_EQ(kernels(WINNOW_ALL), (Names{"summarize", "score", "top_k", "attend"}));
  EXPECT_EQ(kernels(WINNOW_SELECT), (Names{"summarize", "score", "top_k"}));
  EXPECT_EQ(kernels(WINNOW_ATTEND), Names{"attend"});
  for (int32_t phase : {-1, 4}) {
    args.phase = phase;
    EXPECT_EQ(winnow_launch(program, &args, nullptr), WINNOW_INVALID);
  }
  winnow_program_destroy(program);
}

TEST_F(Fields, EveryCounterCountsItsOwn) {
  auto prepare = [&](const char *method) {
    winnow_spec s = distinct();
    s.method = method;
    winnow_program *program = nullptr;
    winnow_status status = winnow_prepare(engine, &s, 0, &program, nullptr);
    winnow_program_destroy(program);
    return status;
  };
  open();
  ASSERT_EQ(prepare("on disk"), WINNOW_OK);
  open();
  for (const char *method : {"a", "b", "on disk", "a", "b", "a"})
    ASSERT_EQ(prepare(method), WINNOW_OK) << winnow_last_error();
  ASSERT_EQ(winnow_engine_seal(engine), WINNOW_OK);
  for (const char *method : {"c", "d", "e", "f"})
    EXPECT_EQ(prepare(method), WINNOW_NOT_READY);
  winnow_counters counters{};
  counters.struct_size = sizeof(counters);
  ASSERT_EQ(winnow_engine_counters(engine, &counters), WINNOW_OK);
  EXPECT_EQ(counters.builds, 2u);
  EXPECT_EQ(counters.disk_hits, 1u);
  EXPECT_EQ(counters.memory_hits, 3u);
  EXPECT_EQ(counters.refused, 4u);
}

TEST_F(Fields, PtxIsLoadedOnlyWhereTheHostAllowsIt) {
  ProgramImage image = sampleImage();
  for (Kernel &kernel : image.kernels)
    kernel.cubin = ".version 8.0\n.target sm_80\n// kernel:" + kernel.name;
  ASSERT_TRUE(saveImageFile(image, dir / "ptx.winnow"));
  winnow_program *program = nullptr;
  const std::string path = dir / "ptx.winnow";
  EXPECT_EQ(winnow_prepare_image(open(), path.c_str(), 0, &program), WINNOW_UNSUPPORTED);
  options.allow_ptx = 1;
  EXPECT_EQ(winnow_prepare_image(open(), path.c_str(), 0, &program), WINNOW_OK)
      << winnow_last_error();
  winnow_program_destroy(program);
}

} // namespace
