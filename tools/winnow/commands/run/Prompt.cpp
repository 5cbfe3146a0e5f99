// Builds the structured input and counts which needles were found.
#include "tools/winnow/commands/run/Prompt.h"
#include "reference/Half.h"
#include "reference/conformance/Fp8Keys.h"
#include "reference/conformance/Random.h"
#include <algorithm>
#include <cmath>

namespace winnow {
namespace {

constexpr int kQuestions = 64; ///< tokens at the end of a sequence that look for needles
constexpr int kNeedles = 8;    ///< per sequence
constexpr int kNeedleTokens = 40;
constexpr int kSinkTokens = 4;
constexpr int kTopicTokens = 384; ///< a topic fades into the next over this many tokens

/// Streams of random draws, one per ingredient.
enum Draws : uint64_t { Noise = 1, Topic, NeedleDirection, SinkDirection, LocalDirection, Value };

class PromptBuilder {
public:
  PromptBuilder(const Spec &spec, const std::vector<int> &lengths, uint64_t seed)
      : spec(spec), seed(seed), dim(spec.headDim), valueDim(spec.valueWidth()) {
    int longest = *std::max_element(lengths.begin(), lengths.end());
    // Long-context models stretch the rotary base so that the slow pairs turn by less than a radian
    // over the prompt.
    double base = std::max(1e6, 40.0 * longest * std::sqrt(static_cast<double>(longest)));
    for (int pair = 0; pair < dim / 2; ++pair)
      frequency.push_back(std::pow(base, -2.0 * pair / dim));
  }

  /// Cosine and sine of each channel pair at one position.
  using Rotation = std::vector<std::pair<float, float>>;
  Rotation rotationAt(int t) const {
    Rotation rotation;
    for (double f : frequency)
      rotation.emplace_back(static_cast<float>(std::cos(t * f)),
                            static_cast<float>(std::sin(t * f)));
    return rotation;
  }

  /// One query (of `head`) or key (of a KV head) before its position is applied is a mix of
  /// unit-variance parts.
  void key(const Prompt &prompt, const Rotation &rotation, int sequence, int t, int kvHead,
           float *row) const {
    for (int i = 0; i < dim; ++i)
      row[i] = 0.8f * noise(Noise, sequence, t, spec.heads + kvHead, i) +
               0.9f * topic(sequence, t, kvHead, i);
    addLocal(kvHead, row, 0.8f);
    if (t < kSinkTokens)
      for (int i = slowBegin(); i < dim; ++i)
        row[i] = 1.3f * direction(SinkDirection, kvHead, i);
    for (size_t n = 0; n < prompt.needles.size(); ++n) {
      const Needle &needle = prompt.needles[n];
      if (needle.sequence == sequence && t >= needle.firstToken &&
          t < needle.firstToken + needle.tokens)
        for (int i = slowBegin(); i < dim; ++i)
          row[i] = 0.5f * row[i] +
                   static_cast<float>(needle.strength) * 1.5f * direction(NeedleDirection, n, i);
    }
    rotate(row, rotation);
  }

  void query(const Prompt &prompt, const Rotation &rotation, int sequence, int t, int globalRow,
             int head, float *row) const {
    int kvHead = head / spec.group();
    for (int i = 0; i < dim; ++i)
      row[i] = 0.9f * noise(Noise, sequence, t, head, i) + 0.6f * topic(sequence, t, kvHead, i);
    addLocal(kvHead, row, 0.8f);
    for (int i = slowBegin(); i < dim; ++i)
      row[i] += 0.9f * direction(SinkDirection, kvHead, i);
    if (int wanted = prompt.wanted(globalRow, kvHead); wanted >= 0)
      for (int i = slowBegin(); i < dim; ++i)
        row[i] += 1.1f * direction(NeedleDirection, wanted, i);
    rotate(row, rotation);
  }

  void value(int sequence, int t, int kvHead, float *row) const {
    float strength = t < kSinkTokens ? 0.05f : 1.0f;
    for (int i = 0; i < valueDim; ++i)
      row[i] = strength * noise(Value, sequence, t, kvHead, i);
  }

private:
  /// Channels are laid out in adjacent pairs; the slower half of the pairs carries meaning.
  int slowBegin() const { return dim / 2; }

  float noise(Draws stream, int sequence, int t, int head, int i) const {
    uint64_t index = ((static_cast<uint64_t>(sequence) << 24 | t) << 8 | head) * 256 + i;
    return randomNormal(seed * 64 + stream, index);
  }
  float direction(Draws stream, size_t which, int i) const {
    return randomNormal(seed * 64 + stream, which * 1024 + i);
  }
  /// A slow walk between random directions; unit variance at every token.
  float topic(int sequence, int t, int kvHead, int i) const {
    if (i < slowBegin())
      return 0;
    int step = t / kTopicTokens;
    double angle = (t % kTopicTokens) * (std::acos(0.0) / kTopicTokens);
    auto at = [&](int s) { return noise(Topic, sequence, s, kvHead, i); };
    return static_cast<float>(std::cos(angle)) * at(step) +
           static_cast<float>(std::sin(angle)) * at(step + 1);
  }
  /// The same direction in queries and keys, in the fast pairs: after rotation it favours small
  /// distances.
  void addLocal(int kvHead, float *row, float strength) const {
    for (int i = 0; i < dim / 4; ++i)
      row[i] += strength * direction(LocalDirection, kvHead, i);
  }
  void rotate(float *row, const Rotation &rotation) const {
    for (int pair = 0; pair < dim / 2; ++pair) {
      auto [c, s] = rotation[pair];
      float x = row[2 * pair], y = row[2 * pair + 1];
      row[2 * pair] = c * x - s * y;
      row[2 * pair + 1] = s * x + c * y;
    }
  }

  const Spec &spec;
  uint64_t seed;
  int dim, valueDim;
  std::vector<double> frequency;
};

/// Needles spread over the first nine tenths of the sequence, behind the sink, at odd offsets.
void plantNeedles(Prompt &prompt, int sequence, int tokens, uint64_t seed) {
  if (tokens < 16 * kNeedleTokens)
    return;
  for (int n = 0; n < kNeedles; ++n) {
    double place =
        (n + 0.25 + 0.5 * randomUniform(seed + 77, sequence * kNeedles + n)) / kNeedles * 0.9;
    int first = std::max(2 * kSinkTokens, static_cast<int>(place * (tokens - kQuestions)));
    prompt.needles.push_back({sequence, first, kNeedleTokens, 1.0 - 0.65 * n / (kNeedles - 1)});
  }
}

} // namespace

int Prompt::wanted(int row, int head) const {
  reference::Place place = placeOf(problem, row);
  int fromEnd = place.queryCount - 1 - place.index;
  if (fromEnd >= kQuestions || fromEnd >= place.queryCount / 8)
    return -1;
  for (size_t n = 0; n < needles.size(); ++n)
    if (needles[n].sequence ==
        place.sequence) // the first of this sequence; its needles follow one another
      return static_cast<int>(n) + (fromEnd + 3 * head) % kNeedles;
  return -1;
}

std::vector<int> Prompt::questionRows() const {
  std::vector<int> rows;
  for (int row = 0; row < problem.totalQ(); ++row)
    if (wanted(row, 0) >= 0)
      rows.push_back(row);
  return rows;
}

Prompt makePrompt(const Spec &spec, const std::vector<int> &lengths, uint64_t seed) {
  Prompt prompt;
  reference::Problem &problem = prompt.problem = reference::problemOf(spec);
  problem.cuQ = {0};
  for (size_t s = 0; s < lengths.size(); ++s) {
    plantNeedles(prompt, static_cast<int>(s), lengths[s], seed);
    problem.cuQ.push_back(problem.cuQ.back() + lengths[s]);
  }
  problem.cuK = problem.cuQ;
  auto tokens = static_cast<size_t>(problem.totalQ());
  prompt.q.resize(tokens * spec.heads * spec.headDim);
  prompt.k.resize(tokens * spec.kvHeads * spec.headDim);
  prompt.v.resize(tokens * spec.kvHeads * spec.valueWidth());
  problem.q = prompt.q.data();
  problem.k = prompt.k.data();
  problem.v = prompt.v.data();

  PromptBuilder builder(spec, lengths, seed);
  reference::parallelFor(tokens, {}, [&](size_t row) {
    reference::Place place = placeOf(problem, static_cast<int>(row));
    auto rotation = builder.rotationAt(place.index);
    std::vector<float> values(std::max(spec.headDim, spec.valueWidth()));
    auto store = [&](std::vector<uint16_t> &tensor, int heads, int head, int dim) {
      uint16_t *target = &tensor[(row * heads + head) * dim];
      for (int i = 0; i < dim; ++i)
        target[i] = reference::toWord(values[i], spec.dtype);
    };
    for (int head = 0; head < spec.heads; ++head) {
      builder.query(prompt, rotation, place.sequence, place.index, static_cast<int>(row), head,
                    values.data());
      store(prompt.q, spec.heads, head, spec.headDim);
    }
    for (int head = 0; head < spec.kvHeads; ++head) {
      builder.key(prompt, rotation, place.sequence, place.index, head, values.data());
      store(prompt.k, spec.kvHeads, head, spec.headDim);
      builder.value(place.sequence, place.index, head, values.data());
      store(prompt.v, spec.kvHeads, head, spec.valueWidth());
    }
  });
  if (spec.hasFp8Keys()) {
    prompt.exactK = prompt.k;
    prompt.exactV = prompt.v;
    storeAsFp8(problem, prompt.k.data(), prompt.v.data());
  }
  return prompt;
}

reference::Problem Prompt::exactProblem() const {
  reference::Problem exact = problem;
  exact.kvDtype = KvDtype::Same;
  exact.k = exactK.data();
  exact.v = exactV.data();
  exact.kScale.clear();
  exact.vScale.clear();
  return exact;
}

Recall recallOf(const Prompt &prompt, const reference::Method &method, const int32_t *ids) {
  Recall recall;
  const reference::Problem &problem = prompt.problem;
  int selectHeads = problem.selectHeads(method);
  auto total = static_cast<size_t>(problem.totalQ());
  for (int row : prompt.questionRows())
    for (int head = 0; head < selectHeads; ++head) {
      int kvHead = head / (selectHeads / problem.kvHeads);
      const Needle &needle = prompt.needles[prompt.wanted(row, kvHead)];
      reference::Place place = placeOf(problem, row);
      const int32_t *list = ids + (head * total + row) * problem.topk;
      int first = needle.firstToken / problem.block,
          last = (needle.firstToken + needle.tokens - 1) / problem.block;
      bool found = std::any_of(list, list + problem.topk,
                               [&](int32_t b) { return b >= first && b <= last; });
      recall.asked++;
      recall.found += found;

      int blocks = place.position / problem.block + 1, forced = 0;
      for (int b = 0; b < blocks; ++b)
        forced += isForced(method, problem, place.position, b);
      double share =
          blocks > forced
              ? std::min(1.0, static_cast<double>(problem.topk - forced) / (blocks - forced))
              : 1;
      bool isFree = !isForced(method, problem, place.position, first) &&
                    !isForced(method, problem, place.position, last);
      recall.chance += isFree ? 1 - std::pow(1 - share, last - first + 1) : 1;
    }
  if (recall.asked)
    recall.chance /= static_cast<double>(recall.asked);
  return recall;
}

} // namespace winnow
