// Draws batches. Lengths lie at and around the multiples of everything that kernels cut keys by;
// every second sequence may begin with pages of the one before it.
#include "tools/winnow/commands/soak/SoakInputs.h"
#include "reference/Half.h"
#include "reference/conformance/Case.h"
#include "reference/conformance/Random.h"
#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

namespace winnow {
namespace {

constexpr int kCopies = 2, kSparePages = 3;
constexpr int32_t kNowhere = 0x3fffffff; // a page that no pool has
constexpr int kRowTokens = 64;           // a page of the layout "rows" is a multiple of it

int pageTokens(const SoakShape &shape, Layout layout, int pageSize) {
  return layout == Layout::Rows ? (shape.keys / kRowTokens + 1) * kRowTokens : pageSize;
}

int pagesOf(int keys, int pageSize) { return (keys + pageSize - 1) / pageSize; }

} // namespace

/// The random numbers of one step.
class SoakInputs::Dice {
public:
  Dice(uint64_t seed, int index, int purpose)
      : stream(randomBits(seed, static_cast<uint64_t>(index) * 8 + purpose)) {}
  uint64_t bits() { return randomBits(stream, next++); }
  int below(int count) {
    return count <= 1 ? 0 : static_cast<int>(bits() % static_cast<uint64_t>(count));
  }
  /// The numbers below `count` in random order.
  std::vector<int32_t> shuffled(int count) {
    std::vector<int32_t> list(count);
    std::iota(list.begin(), list.end(), 0);
    for (int i = count; i > 1; --i)
      std::swap(list[i - 1], list[below(i)]);
    return list;
  }

private:
  uint64_t stream, next = 0;
};

SoakInputs::SoakInputs(const Spec &spec, const SoakShape &shape, Layout layout, int pageSize,
                       const reference::Method &method, std::vector<SummaryShape> kept,
                       uint64_t seed)
    : shape(shape), summaries(std::move(kept)), problem(reference::problemOf(spec)),
      pool(pagePool(problem, layout, pageTokens(shape, layout, pageSize))),
      selectHeads(problem.selectHeads(method)), layout(layout), seed(seed),
      texts(shape.batch * pagesOf(shape.keys, pool.layout.pageSize)),
      stride(pagesOf(shape.keys, pool.layout.pageSize) + 1),
      marks({problem.block, pool.layout.pageSize, shape.keys, 32, 128}),
      text(spec, texts * pool.layout.pageSize, seed) {
  problem.kScale = text.problem.kScale;
  problem.vScale = text.problem.vScale;
  bool ownTable = false;
  int finest = shape.keys;
  for (const SummaryShape &summary : summaries) {
    marks.insert(marks.end(), {summary.window, summary.stride});
    ownTable = ownTable || pool.layout.pageSize % summary.stride != 0;
    finest = std::min(finest, summary.stride);
  }
  if (method.selects && method.denseLen > 0)
    marks.push_back(method.denseLen);
  if (ownTable)
    slots = shape.keys / finest + 1;
}

int SoakInputs::pages() const { return texts * kCopies + kSparePages; }

int SoakInputs::rowPages() const { return slots > 0 ? shape.batch * slots + kSparePages : pages(); }

int SoakInputs::length(Dice &dice) const {
  const int most = shape.keys;
  switch (dice.below(8)) {
  case 0:
    return 0;
  case 1:
    return std::min(most, 1 + dice.below(shape.queries + 1));
  case 2:
  case 3:
  case 4: { // a multiple, one less or one more
    const int mark = marks[dice.below(static_cast<int>(marks.size()))];
    const int multiple = mark * (1 + dice.below(most / mark));
    return std::clamp(multiple + dice.below(3) - 1, 0, most);
  }
  case 5:
    return most;
  default:
    return dice.below(most + 1);
  }
}

int SoakInputs::textToken(const SoakStep &step, int s, int key) const {
  const int slot = key + (step.kBegin.empty() ? 0 : step.kBegin[s]), page = pool.layout.pageSize;
  return step.texts[s][slot / page] * page + slot % page;
}

/// Lengths, and which text each page of a sequence holds.
void SoakInputs::drawTexts(Dice &dice, SoakStep &step) const {
  const std::vector<int32_t> order = dice.shuffled(texts);
  const int page = pool.layout.pageSize;
  int next = 0;
  step.cuQ = {0};
  for (int s = 0; s < shape.batch; ++s) {
    int keys = length(dice), begin = 0;
    const bool shares = s % 2 == 1 && dice.below(2) == 0;
    if (layout == Layout::Rows) {
      begin = shares ? step.kBegin[s - 1] : dice.below(page - keys + 1);
      keys = std::min(keys, page - begin);
      step.kBegin.push_back(begin);
    }
    const int used = keys > 0 ? pagesOf(begin + keys, page) : 0;
    std::vector<int32_t> own;
    if (shares && used > 0 && !step.texts[s - 1].empty()) {
      const std::vector<int32_t> &other = step.texts[s - 1];
      const int both = std::min(used, static_cast<int>(other.size()));
      own.assign(other.begin(), other.begin() + 1 + dice.below(both));
    }
    while (static_cast<int>(own.size()) < used)
      own.push_back(order[next++]);
    step.texts.push_back(std::move(own));
    step.keys.push_back(keys);
    const int queries = dice.below(8) == 0 ? 0 : std::min(keys, 1 + dice.below(shape.queries));
    step.cuQ.push_back(step.cuQ.back() + queries);
  }
}

/// Each query leans towards what some key of its sequence is about.
void SoakInputs::drawQueries(Dice &dice, int index, SoakStep &step) const {
  const size_t width = static_cast<size_t>(problem.heads) * problem.headDim;
  step.q.assign(shape.totalQ() * width,
                reference::toWord(std::numeric_limits<double>::quiet_NaN(), problem.dtype));
  for (int s = 0; s < shape.batch; ++s)
    for (int row = step.cuQ[s]; row < step.cuQ[s + 1]; ++row)
      text.queryRows(textToken(step, s, dice.below(step.keys[s])), 1, &step.q[row * width],
                     index * shape.totalQ() + row);
}

void SoakInputs::drawIds(Dice &dice, SoakStep &step) const {
  const int topk = problem.topk, total = shape.totalQ();
  step.ids.assign(static_cast<size_t>(selectHeads) * total * topk, kNowhere);
  for (int head = 0; head < selectHeads; ++head)
    for (int s = 0; s < shape.batch; ++s)
      for (int row = step.cuQ[s]; row < step.cuQ[s + 1]; ++row) {
        int32_t *ids = &step.ids[(static_cast<size_t>(head) * total + row) * topk];
        const int own = (step.keys[s] - step.cuQ[s + 1] + row) / problem.block;
        if (dice.below(3) == 0) {
          const int blocks = (step.keys[s] + problem.block - 1) / problem.block;
          adversarialRow(ids, topk, blocks, own, dice.bits());
          continue;
        }
        std::fill(ids, ids + topk, -1);
        int open = std::min(topk, own + 1);
        for (int block = 0; block <= own && open > 0; ++block)
          if (dice.below(own + 1 - block) < open) {
            *ids++ = block;
            --open;
          }
      }
}

/// In what pieces the keys before the queries come.
void SoakInputs::drawChunks(Dice &dice, SoakStep &step) const {
  if (summaries.empty())
    return;
  std::vector<int32_t> all, part;
  for (int s = 0; s < shape.batch; ++s) {
    all.push_back(step.keys[s] - (step.cuQ[s + 1] - step.cuQ[s]));
    part.push_back(dice.below(all[s] + 1));
  }
  step.chunks = dice.below(2) == 0 ? std::vector<std::vector<int32_t>>{all}
                                   : std::vector<std::vector<int32_t>>{part, all};
}

/// The tables. `share`: pages of one text that two sequences have are one page.
void SoakInputs::drawPlaces(Dice &dice, bool share, SoakStep &step) const {
  step.table.assign(shape.batch * stride, kNowhere);
  for (int s = 0; s < shape.batch; ++s)
    for (size_t i = 0; i < step.texts[s].size(); ++i) {
      int32_t *entry = &step.table[s * stride + static_cast<int64_t>(i)];
      const int32_t content = step.texts[s][i];
      if (s % 2 == 1 && i < step.texts[s - 1].size() && step.texts[s - 1][i] == content)
        *entry = (entry[-stride] + (share ? 0 : texts)) % (kCopies * texts);
      else
        *entry = content + dice.below(kCopies) * texts;
    }
  if (slots == 0)
    return;
  int finest = shape.keys, unused = shape.keys;
  for (const SummaryShape &summary : summaries) {
    finest = std::min(finest, summary.stride);
    unused = std::min(unused, (summary.window - 1) / summary.stride);
  }
  const std::vector<int32_t> places = dice.shuffled(rowPages());
  step.rowsTable.assign(static_cast<size_t>(shape.batch) * slots, kNowhere);
  for (int s = 0; s < shape.batch; ++s)
    for (int slot = unused; slot * finest < step.keys[s]; ++slot)
      step.rowsTable[s * slots + slot] = places[s * slots + slot];
}

SoakStep SoakInputs::draw(int index) const {
  Dice dice(seed, index, 0);
  SoakStep step;
  drawTexts(dice, step);
  drawQueries(dice, index, step);
  drawIds(dice, step);
  drawChunks(dice, step);
  drawPlaces(dice, /*share=*/true, step);
  return step;
}

SoakStep SoakInputs::elsewhere(const SoakStep &step, int index) const {
  Dice dice(seed, index, 1);
  SoakStep other = step;
  if (!step.chunks.empty())
    other.chunks = {step.chunks.back()};
  drawPlaces(dice, /*share=*/false, other);
  return other;
}

SoakSequence SoakInputs::sequence(const SoakStep &step, int s) const {
  SoakSequence one;
  const size_t keyWidth = static_cast<size_t>(problem.kvHeads) * problem.headDim,
               valueWidth = static_cast<size_t>(problem.kvHeads) * problem.valueWidth();
  for (int key = 0; key < step.keys[s]; ++key) {
    const size_t token = textToken(step, s, key);
    const uint16_t *k = &text.k[token * keyWidth], *v = &text.v[token * valueWidth];
    one.k.insert(one.k.end(), k, k + keyWidth);
    one.v.insert(one.v.end(), v, v + valueWidth);
  }
  one.problem = problem;
  one.problem.cuQ = {0, step.cuQ[s + 1] - step.cuQ[s]};
  one.problem.cuK = {0, step.keys[s]};
  one.problem.q =
      step.q.data() + static_cast<size_t>(step.cuQ[s]) * problem.heads * problem.headDim;
  one.problem.k = one.k.data();
  one.problem.v = one.v.data();
  return one;
}

std::vector<uint16_t> SoakInputs::poolWords(bool values) const {
  if (values && pool.together)
    return {};
  const uint16_t nan = reference::toKeyWord(std::numeric_limits<double>::quiet_NaN(), 1,
                                            problem.kvDtype, problem.dtype);
  const int64_t elements = values ? pool.valueElements : pool.keyElements;
  const int page = pool.layout.pageSize, dim = problem.headDim, valueDim = problem.valueWidth();
  std::vector<uint16_t> words(pages() * elements, nan);
  reference::parallelFor(static_cast<size_t>(texts) * kCopies, {}, [&](size_t place) {
    uint16_t *to = &words[place * elements];
    for (int slot = 0; slot < page; ++slot)
      for (int head = 0; head < problem.kvHeads; ++head) {
        const size_t token = place % texts * page + slot, row = token * problem.kvHeads + head;
        const int64_t *k = pool.layout.kStride, *v = pool.layout.vStride;
        if (!values)
          std::copy_n(&text.k[row * dim], dim, to + slot * k[1] + head * k[2]);
        if (values || pool.together)
          std::copy_n(&text.v[row * valueDim], valueDim,
                      to + (values ? 0 : pool.valueOffset) + slot * v[1] + head * v[2]);
      }
  });
  return words;
}

} // namespace winnow
