// Draws programs and cases. Numbers come from a counter-based generator, one stream per program and
// per case.
#include "reference/conformance/RandomCases.h"
#include "reference/conformance/Random.h"
#include "runtime/program/Tunables.h"
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace winnow {
namespace {

constexpr int kLongest = 3000;         ///< keys of one sequence
constexpr int kMostKeys = 6000;        ///< of the batch
constexpr int kMostQueryRows = 131072; ///< queries of the batch times query heads
/// The same of cases with gradients, whose reference computes all rows and not a sample.
constexpr int kMostBackwardKeys = 2000, kMostBackwardRows = 4096;

class Draw {
public:
  Draw(uint64_t seed, uint64_t stream) : seed(randomBits(seed, stream)) {}

  /// 0 .. bound - 1
  int below(int bound) { return static_cast<int>((bits() >> 33) % static_cast<uint64_t>(bound)); }
  int between(int first, int last) { return first + below(last - first + 1); }
  bool oneIn(int count) { return below(count) == 0; }
  template <typename T> T pick(const std::vector<T> &values) {
    return values[below(static_cast<int>(values.size()))];
  }
  uint64_t bits() { return randomBits(seed, counter++); }

private:
  uint64_t seed, counter = 0;
};

/// All values that the specification names, served or not: what is served is the compiler's to say.
Spec drawSpec(Draw &draw) {
  Spec spec;
  spec.headDim = draw.pick<int>({64, 96, 128, 128, 192, 256});
  spec.valueDim = draw.oneIn(3) ? draw.pick<int>({64, 96, 128, 192, 256}) : 0;
  spec.kvHeads = draw.between(1, 4);
  spec.heads = spec.kvHeads * draw.pick<int>({1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 16, 32, 64});
  spec.block = draw.pick<int>({16, 32, 64, 64, 64, 128, 128, 256, 512, 1024, 2048, 4096});
  spec.topk = draw.pick<int>({1, 2, 3, 5, 8, 12, 16, 16, 24, 32, 48, 64, 96, 96, 128, 200, 256});
  spec.dtype = draw.oneIn(2) ? Dtype::BF16 : Dtype::FP16;
  spec.scale = draw.pick<double>({0, 0, 0, 0.25, 0.03125});
  return spec;
}

/// Settings for the parameters whose meaning is known here; others keep their defaults.
void drawParameters(Draw &draw, const DrawSpace::Method &method, Spec &spec) {
  auto set = [&](const char *name, const std::string &value) {
    if (method.parameters.count(name))
      spec.params[name] = value;
  };
  int init = std::min(draw.between(0, 3), spec.topk);
  int local = std::min(draw.pick<int>({0, 1, 2, 3, 5, 9, 33}), spec.topk - init);
  set("init", std::to_string(init));
  set("local", std::to_string(local));
  if (draw.oneIn(2)) {
    int stride = std::max(8, spec.block / draw.pick<int>({1, 2, 4, 8}));
    int window = stride * draw.pick<int>({1, 2, 2, 4}), coarser = draw.pick<int>({1, 2, 4});
    set("window", std::to_string(window));
    set("stride", std::to_string(stride));
    set("coarse_window", std::to_string(window * coarser));
    set("coarse_stride", std::to_string(stride * coarser));
  }
  set("lse", draw.pick<std::string>({"coarse", "coarse", "exact", "none"}));
  set("compat", draw.pick<std::string>({"none", "none", "infllmv2"}));
  set("dense_len", std::to_string(draw.pick<int>({-1, -1, -1, 100, 1024})));
}

Config drawConfig(Draw &draw, const DrawSpace &space) {
  std::string text;
  for (const DrawSpace::Tunable &tunable : space.tunables) {
    int value = draw.oneIn(2) ? 0 : draw.pick(tunable.values);
    text += fmt::format("{}={} ", tunable.name, value);
  }
  Result<Config> config = Config::parse(text);
  // Names that are no tunables are a fault of the caller.
  return withFixed(config ? *config : Config(), space.fixed);
}

/// Methods with many parameters have more to go wrong, and come more often.
const DrawSpace::Method &drawMethod(Draw &draw, const DrawSpace &space) {
  std::vector<const DrawSpace::Method *> weighted;
  for (const DrawSpace::Method &method : space.methods)
    weighted.insert(weighted.end(), 1 + method.parameters.size(), &method);
  return *draw.pick(weighted);
}

/// Lengths at which tiles, windows and blocks end, and any length.
int drawLength(Draw &draw, int block, int limit) {
  int length = 0;
  switch (draw.below(9)) {
  case 0:
    length = draw.between(1, 31);
    break;
  case 1:
    length = draw.between(1, 127);
    break;
  case 2:
    length = 16 * draw.between(1, 120) - 1;
    break;
  case 3:
    length = 64 * draw.between(1, 40) - 1;
    break;
  case 4:
    length = block * draw.between(1, std::max(1, 2048 / block));
    break;
  case 5:
    length = block * draw.between(1, std::max(1, 2048 / block)) + 1;
    break;
  default:
    length = draw.between(1, kLongest);
  }
  return std::min(length, limit);
}

std::pair<int, int> drawSequence(Draw &draw, int block, int limitK, int limitQ) {
  if (limitK <= 0 || draw.oneIn(10))
    return {0, 0};
  int keys = drawLength(draw, block, std::min(limitK, kLongest)), queries = keys;
  switch (draw.below(8)) {
  case 0:
    queries = 0;
    break;
  case 1:
  case 2: // a few tokens after a history
    queries = draw.between(1, 15);
    break;
  case 3:
  case 4: // a chunk, aligned to nothing
    queries = draw.between(1, keys);
    break;
  default: // a whole prompt
    break;
  }
  return {std::min({queries, keys, std::max(0, limitQ)}), keys};
}

/// Whether draw `index` keeps its tensors as an engine does. A stream of its own: other choices
/// stay what they are.
Draw hostOf(uint64_t seed, int index) {
  constexpr uint64_t kHosts = 0x9e3779b97f4a7c15;
  return Draw(seed ^ kHosts, static_cast<uint64_t>(index));
}

/// Whether program `index` has gradients, likewise.
Draw gradientsOf(uint64_t seed, int index) {
  constexpr uint64_t kGradients = 0xd1b54a32d192ed03;
  return Draw(seed ^ kGradients, static_cast<uint64_t>(index));
}

/// Whether some block is chosen by its score, so that summaries are there to be kept.
bool choosesByScore(const Spec &spec) {
  int forced = 0;
  for (const char *name : {"init", "local"})
    if (auto it = spec.params.find(name); it != spec.params.end())
      forced += std::stoi(it->second);
  return forced < spec.topk;
}

/// Puts a case into the memory of an engine: a layout, pages, often few queries, summaries kept.
void drawHost(Draw &draw, bool selects, ConformanceCase &test) {
  test.layout =
      draw.pick<std::string>({"packed", "halves", "halves", "pages", "pages", "rows", "pairs"});
  test.pageSize = draw.pick<int>({1, 7, 16, 48, 64, 64, 100, 256});
  if (draw.oneIn(3))
    return;
  // As at decode: a few tokens each, of some or all sequences one.
  const int most = draw.pick<int>({1, 1, 2, 5, 16, 17});
  for (auto &[queries, keys] : test.sequences)
    queries = std::min(queries, draw.between(1, most));
  test.keepsRows = selects && !test.givenIds && choosesByScore(test.spec) && !draw.oneIn(4);
}

} // namespace

bool isRefusal(const Status &served) {
  return !served &&
         (served.error().kind == ErrorKind::Unsupported || served.error().kind == ErrorKind::Usage);
}

Result<DrawnProgram> drawProgram(const DrawSpace &space, uint64_t seed, int index) {
  constexpr int attempts = 2000, configs = 8;
  Draw draw(seed, static_cast<uint64_t>(index) * 2);
  std::string reason = "there is no method";
  for (int attempt = 0; attempt < attempts && !space.methods.empty(); ++attempt) {
    const DrawSpace::Method &method = drawMethod(draw, space);
    DrawnProgram program{method.name, drawSpec(draw), Config()};
    drawParameters(draw, method, program.spec);
    Draw host = hostOf(seed, index);
    program.spec.paged = host.oneIn(3) && !space.backward;
    program.spec.backward =
        !program.spec.paged && (space.backward || gradientsOf(seed, index).oneIn(kBackwardShare));
    const bool wantsFp8 = program.spec.paged && host.oneIn(4);
    // Tunables have a stream of their own: what fits an architecture must not change the specs.
    Draw tunables(seed, (static_cast<uint64_t>(index) << 32 | attempt) * 2 + 1);
    for (int i = 0; i <= configs; ++i) {
      program.config = i < configs ? drawConfig(tunables, space) : space.fixed;
      // Where there are no kernels for keys of fp8, the draw is the same of 16 bits.
      for (bool fp8 : {true, false}) {
        if (fp8 && !wantsFp8)
          continue;
        program.spec.kvDtype = fp8 ? KvDtype::Fp8E4m3 : KvDtype::Same;
        Status served = space.serves(program.method, program.spec, program.config);
        if (!isRefusal(served))
          return program;
        reason = served.error().message;
      }
    }
  }
  return fail(ErrorKind::Unsupported,
              "no random spec that was drawn is served by this build: " + reason);
}

ConformanceCase drawCase(const DrawnProgram &program, bool selects, uint64_t seed, int index) {
  Draw draw(~seed, index);
  ConformanceCase test;
  test.name = fmt::format("draw {}", index);
  test.method = program.method;
  test.spec = program.spec;
  test.config = program.config;
  test.seed = draw.bits() >> 32;
  test.rows = 48;
  test.data = draw.pick<std::string>({"normal", "normal", "normal", "wide", "ties", "poison",
                                      "huge", "sigma8", "beyond", "peaks"});
  test.givenIds = selects && draw.oneIn(4);
  test.backward = program.spec.backward;
  const int mostKeys = test.backward ? kMostBackwardKeys : kMostKeys,
            mostRows = test.backward ? kMostBackwardRows : kMostQueryRows;
  int keys = 0, queries = 0;
  for (int left = draw.between(1, 5); left > 0; --left) {
    auto sequence = drawSequence(draw, program.spec.block, mostKeys - keys,
                                 mostRows / program.spec.heads - queries);
    test.sequences.push_back(sequence);
    queries += sequence.first;
    keys += sequence.second;
  }
  if (queries == 0 && !draw.oneIn(8)) { // a batch without a query tests little
    int length = std::min(draw.between(1, 300), mostRows / program.spec.heads);
    test.sequences.emplace_back(length, length);
  }
  if (test.spec.paged) {
    Draw host = hostOf(test.seed, index);
    drawHost(host, selects, test);
    test.scaled = test.spec.hasFp8Keys() && !host.oneIn(4);
  }
  return test;
}

Config withFixed(Config config, const Config &fixed) {
  for (const Tunable &tunable : tunables())
    if (int value = tunable.get(fixed))
      tunable.set(config, value);
  return config;
}

std::string describe(const ConformanceCase &test) {
  std::string lengths;
  for (auto [queries, keys] : test.sequences)
    lengths += fmt::format("{}{}/{}", lengths.empty() ? "" : " ", queries, keys);
  std::string layout;
  if (!test.layout.empty())
    layout = fmt::format(" layout {} pages of {}{}", test.layout, test.pageSize,
                         test.keepsRows ? " rows kept" : "");
  return fmt::format("{} {} config [{}] queries/keys [{}] data {}{}{}{} seed {}", test.method,
                     test.spec.text(), test.config.text(), lengths, test.data,
                     test.scaled ? " with factors" : "", test.givenIds ? " given ids" : "", layout,
                     test.seed);
}

} // namespace winnow
