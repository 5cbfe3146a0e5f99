// The attention of a small engine: programs are generated when the model is loaded, the prompt is
// brought in chunks over a paged cache, then tokens one by one, on a GPU by a graph that was
// captured once. Every layer's outputs are compared with one launch over the whole sequence.
// Usage: engine_cpp [DRIVER]. Without a GPU it runs on the CPU, with a smaller model.
// Exit: 0 when the outputs agree.
#include "Device.h"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

struct Model {
  int heads, kvHeads, dim, topk;
  const char *params;
  int prompt, chunk, decoded;
  int tokens() const { return prompt + decoded; }
};
constexpr Model kLarge{32, 2, 128, 96, "", 16384, 4096, 16};
constexpr Model kSmall{8, 2, 64, 8, "local=3", 1024, 256, 8};
constexpr int kPage = 64; ///< tokens

[[noreturn]] void stop(const winnow::Status &status) {
  std::fprintf(stderr, "engine_cpp: %s\n", status.message().c_str());
  std::exit(1);
}
void need(const winnow::Status &status) {
  if (!status)
    stop(status);
}
template <typename T> T need(winnow::Result<T> result) {
  need(result.status());
  return std::move(*result);
}

int progress(void *, size_t done, size_t count, const char *method) {
  std::printf("\rgenerating kernels: %zu of %zu (%s)   ", done, count, method);
  if (done == count)
    std::puts("");
  std::fflush(stdout);
  return 0;
}

/// What the layers in front would compute: words that look random, deterministic.
std::vector<uint16_t> madeUp(size_t count, uint32_t seed) {
  std::vector<uint16_t> words(count);
  for (uint16_t &word : words) {
    seed = seed * 1664525U + 1013904223U;
    const float value = static_cast<float>(seed >> 8) / (1 << 23) - 1; // -1 to 1
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    word = static_cast<uint16_t>(bits >> 16); // bfloat16
  }
  return words;
}
float toFloat(uint16_t word) {
  const uint32_t bits = static_cast<uint32_t>(word) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

/// One layer's cache and launches, for one sequence.
class Layer {
public:
  Layer(Device &device, const Model &model, const winnow::Program &program, uint32_t seed)
      : device(device), model(model), program(program), q(madeUp(queryWords(), seed)),
        k(madeUp(keyWords(), seed + 1)), v(madeUp(keyWords(), seed + 2)) {
    const size_t pages = (static_cast<size_t>(model.tokens()) + kPage - 1) / kPage;
    for (size_t i = 0; i < pages; ++i) // any order will do
      table.push_back(static_cast<int32_t>(pages - 1 - i));
    args.k = keyPages = device.allocate(pages * pageBytes());
    args.v = valuePages = device.allocate(pages * pageBytes());
    args.q = queries = device.allocate(queryWords() * 2);
    args.out = device.allocate(queryWords() * 2);
    args.ids = static_cast<int32_t *>(device.allocate(
        sizeof(int32_t) * std::max(1, program.selectHeads()) * model.tokens() * model.topk));
    args.page_table = numbers(table);
    args.page_table_stride = static_cast<int64_t>(pages);
    args.page_size = kPage;
    args.cu_q = queryEnds = numbers({0, 0});
    args.seq_k = keyCount = numbers({0});
    const std::vector<winnow::RowsLayout> rows = program.rows();
    for (size_t i = 0; i < rows.size(); ++i) // beside each page the summaries of its keys
      args.rows[i] = device.allocate(pages * pageBytes() / rows[i].stride);
    shape.batch = 1;
    shape.max_k = model.tokens();
    args.shape = &shape;
    for (int count :
         {model.tokens(), model.chunk, 1}) { // one query is cut into parts, many are not
      setQueries(count);
      args.workspace_bytes = std::max(args.workspace_bytes, need(program.workspaceSize(shape)));
    }
    args.workspace = device.allocate(args.workspace_bytes);
  }
  Layer(const Layer &) = delete;

  /// The next `count` tokens, by a launch of its own.
  void bring(int count) {
    append(count);
    setQueries(count);
    need(device.run([&](void *stream) { return program.launch(args, stream); }));
    keep(count);
  }
  /// The last tokens, one by one: one recording, whose numbers change in place.
  void decode(int count) {
    setQueries(1);
    Device::Replay step = device.record([&](void *stream) { return program.launch(args, stream); });
    need(step.status);
    for (int i = 0; i < count; ++i) {
      append(1);
      step.replay();
      keep(1);
    }
  }
  /// The largest difference to one launch over everything.
  float distanceToWhole() {
    std::vector<uint16_t> inSteps;
    inSteps.swap(out);
    here = 0;
    bring(model.tokens());
    float distance = 0;
    for (size_t i = 0; i < out.size(); ++i)
      distance = std::max(distance, std::abs(toFloat(out[i]) - toFloat(inSteps[i])));
    return distance;
  }

private:
  size_t queryWidth() const { return static_cast<size_t>(model.heads) * model.dim; }
  size_t keyWidth() const { return static_cast<size_t>(model.kvHeads) * model.dim; }
  size_t queryWords() const { return model.tokens() * queryWidth(); }
  size_t keyWords() const { return model.tokens() * keyWidth(); }
  size_t pageBytes() const { return kPage * keyWidth() * 2; }

  int32_t *numbers(const std::vector<int32_t> &values) {
    void *memory = device.allocate(values.size() * sizeof(int32_t));
    device.write(memory, values.data(), values.size() * sizeof(int32_t));
    return static_cast<int32_t *>(memory);
  }
  void setQueries(int count) {
    shape.total_q = shape.max_q = count;
    const int32_t ends[] = {0, count};
    device.write(queryEnds, ends, sizeof(ends));
  }
  /// Puts the next tokens' queries, keys and values where a launch reads them.
  void append(int count) {
    device.write(queries, q.data() + here * queryWidth(), count * queryWidth() * 2);
    for (int token = here; token < here + count; ++token) {
      const size_t place = table[token / kPage] * pageBytes() + token % kPage * keyWidth() * 2;
      device.write(static_cast<char *>(keyPages) + place, &k[token * keyWidth()], keyWidth() * 2);
      device.write(static_cast<char *>(valuePages) + place, &v[token * keyWidth()], keyWidth() * 2);
    }
    here += count;
    const int32_t keys = here;
    device.write(keyCount, &keys, sizeof(keys));
  }
  void keep(int count) {
    const size_t words = count * queryWidth(), before = out.size();
    out.resize(before + words);
    device.read(&out[before], args.out, words * 2);
  }

  Device &device;
  const Model &model;
  const winnow::Program &program;
  std::vector<uint16_t> q, k, v, out; ///< of all tokens; out as far as it was computed
  std::vector<int32_t> table;
  void *keyPages, *valuePages, *queries;
  int32_t *queryEnds, *keyCount;
  int here = 0; ///< tokens in the cache
  winnow::Shape shape;
  winnow::LaunchArgs args;
};

} // namespace

int main(int argc, char **argv) {
  const char *driver = argc > 1 ? argv[1] : nullptr;
  winnow::EngineOptions options;
  options.driver_path = driver;
  options.compiler = need(winnow::loadCompiler());
  options.progress = progress;
  winnow::Engine engine = need(winnow::Engine::create(options));
  std::unique_ptr<Device> device = openGpu(driver);
  const Model &model = device ? kLarge : kSmall;
  if (!device)
    device = openCpu();
  std::printf("on %s: a prompt of %d tokens in chunks of %d, then %d tokens\n",
              device->name().c_str(), model.prompt, model.chunk, model.decoded);

  winnow::Spec sparse;
  sparse.method = "infllm_v2";
  sparse.heads = model.heads;
  sparse.kvHeads = model.kvHeads;
  sparse.headDim = model.dim;
  sparse.topk = model.topk;
  sparse.params = model.params;
  sparse.paged = true;
  winnow::Spec dense = sparse; // of a model's first layer
  dense.method = "dense";
  dense.params = "";
  std::vector<winnow::Program> programs;
  need(engine.prepare({dense, sparse}, device->index(), programs));
  need(engine.seal()); // from here on a launch is all that happens

  bool agrees = true;
  for (size_t i = 0; i < programs.size(); ++i) {
    Layer layer(*device, model, programs[i], static_cast<uint32_t>(17 * i));
    for (int begin = 0; begin < model.prompt; begin += model.chunk)
      layer.bring(model.chunk);
    layer.decode(model.decoded);
    const float distance = layer.distanceToWhole();
    std::printf("layer %zu: outputs in steps and at once are %g apart\n", i, distance);
    agrees = agrees && distance <= 0.02F;
  }
  return agrees ? 0 : 1;
}
