// Reads facts off method texts and printed kernels.
#include "tests/compiler/RecipeFacts.h"
#include "reference/methods/MethodAxes.h"
#include <algorithm>
#include <regex>

namespace winnow {

Batch::Batch(const std::vector<std::pair<int, int>> &sequences) {
  for (auto [queries, keys] : sequences) {
    cuQ.push_back(cuQ.back() + queries);
    cuK.push_back(cuK.back() + keys);
  }
}

int Batch::maxK() const {
  int most = 0;
  for (int s = 0; s < sequences(); ++s)
    most = std::max(most, cuK[s + 1] - cuK[s]);
  return most;
}

std::string Batch::text() const {
  std::string out = "(queries, keys):";
  for (int s = 0; s < std::min(sequences(), 12); ++s)
    out += " (" + std::to_string(cuQ[s + 1] - cuQ[s]) + ", " + std::to_string(cuK[s + 1] - cuK[s]) +
           ")";
  return out + (sequences() > 12 ? " ..." : "");
}

Launch::Launch(const ProgramImage &image, const Batch &batch, int smCount) {
  variables[Variable::SmCount] = smCount;
  variables[Variable::Batch] = batch.sequences();
  variables[Variable::TotalQ] = variables[Variable::TokenCount] = batch.totalQ();
  variables[Variable::TotalK] = batch.totalK();
  for (int s = 0; s < batch.sequences(); ++s)
    variables[Variable::MaxQ] =
        std::max<int64_t>(variables[Variable::MaxQ], batch.cuQ[s + 1] - batch.cuQ[s]);
  variables[Variable::MaxK] = batch.maxK();
  variables[Variable::Parts] = image.parts.empty() ? 1 : value(image.parts);
  variables[Variable::Cluster] = image.cluster.empty() ? 0 : value(image.cluster);
  if (image.scoreStride.empty())
    return;
  variables[Variable::ScoreStride] = value(image.scoreStride);
  variables[Variable::ChunkTokens] = value(image.chunkTokens);
}

int64_t Launch::value(const std::string &formula) const {
  // Parsed once: a few texts are evaluated millions of times.
  static auto &known = *new std::map<std::string, Formula>;
  auto [entry, isNew] = known.try_emplace(formula);
  if (isNew)
    entry->second = *Formula::parse(formula, kLastVariable);
  Result<int64_t> value = entry->second.evaluate(variables);
  if (!value)
    ADD_FAILURE() << value.error().message;
  return value.value_or(-1);
}

RecipeFacts factsOf(const MatrixProgram &program) {
  const Spec &spec = program.request.spec;
  RecipeFacts facts;
  facts.heads = spec.heads, facts.kvHeads = spec.kvHeads;
  facts.headDim = spec.headDim, facts.valueDim = spec.valueWidth();
  facts.block = spec.block, facts.topk = spec.topk;
  static auto &texts = *new std::map<std::string, std::string>;
  if (texts.empty())
    for (const MethodInfo &method : builtinMethods())
      texts[method.name] = method.text;
  const reference::Method axes =
      *axesOfText(texts.at(program.request.method), program.request.method, spec);
  facts.selects = axes.selects;
  if (!axes.selects)
    return facts;
  facts.selectHeads = axes.combine == reference::Combine::None ? spec.heads : spec.kvHeads;
  facts.local = axes.local;
  facts.scores = axes.init + axes.local < spec.topk;
  if (!facts.scores)
    return facts;
  facts.softmax = axes.lse != reference::Lse::None;
  facts.summaries.push_back({axes.window, axes.stride});
  if (axes.lse == reference::Lse::Coarse)
    facts.summaries.push_back({axes.coarseWindow, axes.coarseStride});
  return facts;
}

const Kernel *findKernel(const ProgramImage &image, const std::string &name) {
  for (const Kernel &kernel : image.kernels)
    if (kernel.name == name)
      return &kernel;
  return nullptr;
}

int constantOf(const Kernel &kernel, const std::string &name) {
  const std::string begin = "constexpr int " + name + " = ";
  const size_t at = kernel.source.find(begin);
  return at == std::string::npos ? 0 : std::stoi(kernel.source.substr(at + begin.size(), 12));
}

bool holds(const Kernel &kernel, const std::string &text) {
  return kernel.source.find(text) != std::string::npos;
}

int64_t capacityOf(const Kernel &kernel) {
  // The fused kernel has kWarps of its own: there one warp has a row, as where nothing is said.
  const int64_t warps = std::max(1, constantOf(kernel, "kWarps"));
  if (const int perLane = constantOf(kernel, "kRanksPerLane"))
    return warps * perLane * 32;
  int chunks = 0;
  static const std::regex pairs(R"(RankPairs<(\d+)>)");
  for (std::sregex_iterator match(kernel.source.begin(), kernel.source.end(), pairs), none;
       match != none; ++match)
    chunks = std::max(chunks, std::stoi((*match)[1]));
  return warps * chunks * constantOf(kernel, "kChunkBlocks");
}

bool isPersistent(const Kernel &kernel) {
  return holds(kernel, "const int items = slots * ") || holds(kernel, "item < slots;");
}

TokenRun runOf(const std::vector<int> &cu, int begin, int end, int tile, int slot) {
  auto cut = [&](int row) { return std::clamp(row, begin, end); };
  const int sequences = static_cast<int>(cu.size()) - 1;
  // First slots ascend strictly: the last one that is not behind `slot`.
  int sequence = 0;
  for (int step = 1 << 20; step > 0; step /= 2)
    if (sequence + step < sequences &&
        (cut(cu[sequence + step]) - begin) / tile + sequence + step <= slot)
      sequence += step;
  const int first = cut(cu[sequence]), last = cut(cu[sequence + 1]);
  const int row = first + (slot - (first - begin) / tile - sequence) * tile;
  return {row, std::clamp(last - row, 0, tile)};
}

testing::AssertionResult coverOnce(const std::vector<int> &cu, int begin, int end, int tile,
                                   int64_t slots) {
  std::vector<int> times(end - begin);
  for (int64_t slot = 0; slot < slots; ++slot) {
    const TokenRun run = runOf(cu, begin, end, tile, static_cast<int>(slot));
    for (int row = run.row; row < run.row + run.tokens; ++row) {
      if (row < begin || row >= end)
        return testing::AssertionFailure() << "slot " << slot << " reaches row " << row;
      ++times[row - begin];
    }
  }
  for (size_t i = 0; i < times.size(); ++i)
    if (times[i] != 1)
      return testing::AssertionFailure()
             << slots << " slots of " << tile << " tokens have row " << begin + static_cast<int>(i)
             << " of [" << begin << ", " << end << ") " << times[i] << " times";
  return testing::AssertionSuccess();
}

} // namespace winnow
