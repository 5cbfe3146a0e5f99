// A method of one's own, from its text to a launch on the CPU. The method lets a softmax's logits
// rise no higher than 30; what it costs to try another is one line of its region.
// Usage: new_method. Exit: 0 when the capped method gave what it must beside the plain one.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <winnow.hpp>

namespace {

constexpr int kHeads = 4, kKvHeads = 2, kDim = 64, kTopk = 8, kTokens = 512;
constexpr const char *kPath = "softcap_of_mine.mlir";
constexpr const char *kText = R"mlir(
select.method @softcap_of_mine doc "selection by means, attention logits capped softly at 30"
    params(window = 32, stride = 16, init = 1, local = 3) (%q, %k, %v) {
  %k1  = select.summarize mean %k window @window stride @stride
  %lse = select.logsumexp %q, %k1 mode exact visible none
  %s   = select.score %q, %k1 softmax %lse visible none
  %h   = select.combine_heads sum %s
  %b   = select.pool max %h
  %f   = select.force %b init @init local @local
  %ids = select.top_k %f
  %o   = select.attend %q, %k, %v, %ids rewrite {
  ^bb0(%logit: f32, %query: i32, %key: i32):
    %cap    = arith.constant 30.0 : f32
    %ratio  = arith.divf %logit, %cap : f32
    %bent   = math.tanh %ratio : f32
    %capped = arith.mulf %bent, %cap : f32
    select.yield %capped : f32
  }
  select.return %o
}
)mlir";

[[noreturn]] void stop(const winnow::Status &status) {
  std::fprintf(stderr, "new_method: %s\n", status.message().c_str());
  std::exit(1);
}
template <typename T> T need(winnow::Result<T> result) {
  if (!result)
    stop(result.status());
  return std::move(*result);
}

/// 16-byte aligned, as tensors must be.
struct Words {
  explicit Words(size_t count) : size(count) {
    data = static_cast<uint16_t *>(std::aligned_alloc(64, (count * 2 + 63) / 64 * 64));
    std::memset(data, 0, count * 2);
  }
  ~Words() { std::free(data); }
  Words(const Words &) = delete;
  Words &operator=(const Words &) = delete;
  uint16_t *data;
  size_t size;
};

uint16_t toBf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return static_cast<uint16_t>(bits >> 16);
}
float fromBf16(uint16_t word) {
  const uint32_t bits = static_cast<uint32_t>(word) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

/// Waves of some length: every token differs from its neighbours. Deterministic.
void fill(Words &words, float height, float pace) {
  for (size_t i = 0; i < words.size; ++i)
    words.data[i] = toBf16(height * std::sin(pace * static_cast<float>(i)));
}

/// The logarithm of the softmax's sum of the last token, head 0: what a cap on logits shows in.
float lastLse(const winnow::Program &program, const Words &q, const Words &k, const Words &v) {
  Words out(q.size);
  std::vector<float> lse(static_cast<size_t>(kHeads) * kTokens);
  std::vector<int32_t> ids(static_cast<size_t>(program.selectHeads()) * kTokens * kTopk);
  const int32_t lengths[] = {0, kTokens};
  winnow::Shape shape;
  shape.batch = 1;
  shape.total_q = shape.total_k = shape.max_q = shape.max_k = kTokens;
  winnow::LaunchArgs args;
  args.q = q.data;
  args.k = k.data;
  args.v = v.data;
  args.out = out.data;
  args.lse = lse.data();
  args.ids = ids.data();
  args.cu_q = args.cu_k = lengths;
  args.shape = &shape;
  if (winnow::Status status = program.launch(args); !status)
    stop(status);
  std::printf("  last token: output %g, logsumexp %g, block %d comes first\n",
              fromBf16(out.data[(size_t(kTokens) - 1) * kHeads * kDim]), lse[kTokens - 1],
              ids[(size_t(kTokens) - 1) * kTopk]);
  return lse[kTokens - 1];
}

} // namespace

int main() {
  std::ofstream(kPath) << kText;
  winnow::EngineOptions options;
  options.compiler = need(winnow::loadCompiler());
  winnow::Engine engine = need(winnow::Engine::create(options));
  winnow::Spec spec;
  spec.method = kPath;
  spec.heads = kHeads;
  spec.kvHeads = kKvHeads;
  spec.headDim = kDim;
  spec.topk = kTopk;
  const winnow::Program capped = need(engine.prepare(spec, WINNOW_CPU));
  spec.method = "infllm_v2";
  spec.params = "local=3";
  const winnow::Program plain = need(engine.prepare(spec, WINNOW_CPU));

  Words q(size_t(kTokens) * kHeads * kDim), k(size_t(kTokens) * kKvHeads * kDim), v(k.size);
  fill(q, 12, 0.37F);
  fill(k, 12, 0.37F);
  fill(v, 1, 0.11F);
  std::puts("capped:");
  const float low = lastLse(capped, q, k, v);
  std::puts("plain:");
  const float high = lastLse(plain, q, k, v);
  // At most 8 blocks of 64 keys with logits up to 30: the sum is at most 512 e^30.
  if (!(low <= 30 + std::log(512.F)) || !(high > low)) {
    std::fprintf(stderr, "new_method: the cap does not hold: %g, without it %g\n", low, high);
    return 1;
  }
  return 0;
}
