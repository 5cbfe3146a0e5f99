// Pools of pages are made a piece at a time, in the order in which they lie in device memory.
#include "tools/winnow/commands/bench/DecodeInputs.h"
#include "reference/Half.h"
#include "tools/winnow/commands/bench/PageOrder.h"
#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

namespace winnow {
namespace {

constexpr int kSparePages = 3;
constexpr uint64_t kPlaceSeed = 77; ///< of set 0; each further one adds 1

/// Lengths in steps that reach from a quarter of `keys` to all of them, in no order.
int raggedLength(const DecodeShape &shape, int sequence) {
  int turn = 7; // each step once: no divisor of the batch
  while (std::gcd(turn, shape.batch) != 1)
    ++turn;
  const int step = static_cast<int>(int64_t(sequence) * turn % shape.batch);
  const int64_t least = std::max(shape.queries, shape.keys / 4);
  return shape.batch < 2
             ? shape.keys
             : static_cast<int>(least + (shape.keys - least) * step / (shape.batch - 1));
}

} // namespace

DecodeInputs::DecodeInputs(const Spec &spec, const DecodeShape &shape, Layout layout, int pageSize,
                           const BenchInputs &text)
    : text(text), layout(layout), pageRun(shape.pageRun) {
  problem = reference::problemOf(spec);
  problem.kScale = text.problem.kScale;
  problem.vScale = text.problem.vScale;
  problem.cuQ = problem.cuK = {0};
  const size_t width = static_cast<size_t>(spec.heads) * spec.headDim;
  q.resize(static_cast<size_t>(shape.batch) * shape.queries * width);
  for (int s = 0; s < shape.batch; ++s) {
    lengths.push_back(shape.ragged ? raggedLength(shape, s) : shape.keys);
    problem.cuQ.push_back(problem.cuQ.back() + shape.queries);
    problem.cuK.push_back(problem.cuK.back() + lengths[s]);
    text.queryRows(lengths[s] - shape.queries, shape.queries, &q[problem.cuQ[s] * width], s);
  }
  problem.q = q.data();
  // A row of a batch has room for more tokens than there are; keys stand at its end.
  pool = pagePool(problem, layout,
                  layout == Layout::Rows     ? shape.keys + 5
                  : layout == Layout::Packed ? 0
                                             : pageSize);
  if (layout == Layout::Packed)
    return;
  for (int s = 0; s < shape.batch; ++s) {
    tableStride = std::max<int64_t>(tableStride, pagesOf(s));
    if (layout == Layout::Rows)
      kBegin.push_back(pool.layout.pageSize - lengths[s]);
  }
}

int DecodeInputs::pagesOf(int sequence) const {
  return (lengths[sequence] + pool.layout.pageSize - 1) / pool.layout.pageSize;
}

int DecodeInputs::parts() const {
  int count = static_cast<int>(lengths.size());
  if (layout == Layout::Packed)
    return count;
  count = kSparePages;
  for (size_t s = 0; s < lengths.size(); ++s)
    count += pagesOf(static_cast<int>(s));
  return count;
}

int64_t DecodeInputs::partElements(bool values, int part) const {
  if (layout != Layout::Packed)
    return values ? pool.valueElements : pool.keyElements;
  return int64_t(lengths[part]) * problem.kvHeads *
         (values ? problem.valueWidth() : problem.headDim);
}

int64_t DecodeInputs::partBegin(bool values, int part) const {
  if (layout != Layout::Packed)
    return part * (values ? pool.valueElements : pool.keyElements);
  return int64_t(problem.cuK[part]) * problem.kvHeads *
         (values ? problem.valueWidth() : problem.headDim);
}

std::vector<int32_t> DecodeInputs::table(int set) const {
  if (layout == Layout::Packed)
    return {};
  const std::vector<int32_t> places = pageOrder(parts(), pageRun, kPlaceSeed + set);
  std::vector<int32_t> table(lengths.size() * tableStride, -1);
  int next = 0;
  for (size_t s = 0; s < lengths.size(); ++s)
    for (int i = 0; i < pagesOf(static_cast<int>(s)); ++i)
      table[s * tableStride + i] = places[next++];
  return table;
}

void DecodeInputs::fill(const std::vector<int32_t> &table, bool values, int first, int count,
                        uint16_t *words) const {
  const int heads = problem.kvHeads, dim = problem.headDim, valueDim = problem.valueWidth();
  if (layout == Layout::Packed) { // the text, once for each sequence
    for (int part = first; part < first + count; ++part) {
      const uint16_t *from = values ? text.problem.v : text.problem.k;
      std::copy_n(from, partElements(values, part),
                  words + partBegin(values, part) - partBegin(values, first));
    }
    return;
  }
  struct Owner {
    int sequence = -1, page = 0;
  };
  std::vector<Owner> owners(count);
  for (size_t i = 0; i < table.size(); ++i)
    if (table[i] >= first && table[i] < first + count)
      owners[table[i] - first] = {static_cast<int>(i / tableStride),
                                  static_cast<int>(i % tableStride)};
  const uint16_t nan = reference::toKeyWord(std::numeric_limits<double>::quiet_NaN(), 1,
                                            problem.kvDtype, problem.dtype);
  const int64_t elements = partElements(values, 0);
  const int pageSize = pool.layout.pageSize;
  const bool withKeys = !values, withValues = values || pool.together;
  reference::parallelFor(count, {}, [&](size_t part) {
    uint16_t *page = words + part * elements;
    const Owner owner = owners[part];
    const int begin = owner.sequence < 0 ? 0 : kBegin.empty() ? 0 : kBegin[owner.sequence];
    const int length = owner.sequence < 0 ? 0 : lengths[owner.sequence];
    if (int64_t(owner.page) * pageSize < begin ||
        int64_t(owner.page + 1) * pageSize > begin + length)
      std::fill_n(page, elements, nan);
    for (int slot = 0; slot < pageSize; ++slot) {
      const int64_t key = int64_t(owner.page) * pageSize + slot - begin;
      if (key < 0 || key >= length)
        continue;
      for (int head = 0; head < heads; ++head) {
        const int64_t row = key * heads + head;
        const int64_t *k = pool.layout.kStride, *v = pool.layout.vStride;
        if (withKeys)
          std::copy_n(text.problem.k + row * dim, dim, page + slot * k[1] + head * k[2]);
        if (withValues)
          std::copy_n(text.problem.v + row * valueDim, valueDim,
                      page + (values ? 0 : pool.valueOffset) + slot * v[1] + head * v[2]);
      }
    }
  });
}

reference::Problem DecodeInputs::sequence(int s) const {
  reference::Problem one = problem;
  one.cuQ = {0, problem.cuQ[s + 1] - problem.cuQ[s]};
  one.cuK = {0, lengths[s]};
  one.q = problem.q + static_cast<size_t>(problem.cuQ[s]) * problem.heads * problem.headDim;
  one.k = text.problem.k;
  one.v = text.problem.v;
  return one;
}

std::vector<int32_t> DecodeInputs::ids(const reference::Method &method, int overlap) const {
  const size_t heads = problem.selectHeads(method), total = problem.totalQ(), topk = problem.topk;
  std::vector<int32_t> all(heads * total * topk);
  for (size_t s = 0; s < lengths.size(); ++s) {
    const reference::Problem one = sequence(static_cast<int>(s));
    const HostArray<int32_t> own = overlappingIds(method, one, overlap, 7 + s);
    const size_t count = one.totalQ() * topk;
    for (size_t head = 0; head < heads; ++head)
      std::copy_n(&own[head * count], count, &all[(head * total + problem.cuQ[s]) * topk]);
  }
  return all;
}

double DecodeInputs::rowBytes() const {
  return problem.keyElementBytes() * static_cast<double>(problem.headDim + problem.valueWidth());
}

double DecodeInputs::bytesRead(const reference::Method &method, const int32_t *ids,
                               bool summaries) const {
  const int heads = problem.selectHeads(method), kvHeads = problem.kvHeads;
  const size_t total = problem.totalQ(), topk = problem.topk;
  double bytes = 0;
  std::vector<bool> wanted;
  for (size_t s = 0; s < lengths.size(); ++s) {
    const int length = lengths[s], blocks = (length + problem.block - 1) / problem.block;
    if (!method.selects || length < method.denseLen) {
      bytes += rowBytes() * length * kvHeads;
      continue;
    }
    for (int kvHead = 0; kvHead < kvHeads; ++kvHead) {
      wanted.assign(blocks, false);
      for (int head = kvHead * heads / kvHeads; head < (kvHead + 1) * heads / kvHeads; ++head)
        for (int row = problem.cuQ[s]; row < problem.cuQ[s + 1]; ++row) {
          const int32_t *list = ids + (head * total + row) * topk;
          for (size_t i = 0; i < topk; ++i)
            if (list[i] >= 0 && list[i] < blocks)
              wanted[list[i]] = true;
        }
      int64_t keys = 0;
      for (int b = 0; b < blocks; ++b)
        if (wanted[b])
          keys += std::min(problem.block, length - b * problem.block);
      bytes += rowBytes() * static_cast<double>(keys);
    }
    auto rows = [&](int window, int stride) {
      return length < window ? 0 : (length - window) / stride + 1;
    };
    // Local blocks are forced, so that no row of theirs need be scored.
    const int own = (length - 1) / problem.block;
    int scored = std::min(rows(method.window, method.stride),
                          std::max(0, own - method.local + 1) * (problem.block / method.stride));
    if (method.lse == reference::Lse::Coarse)
      scored += rows(method.coarseWindow, method.coarseStride);
    if (summaries && blocks > problem.topk)
      bytes += static_cast<double>(sizeof(uint16_t)) * scored * problem.headDim * kvHeads;
  }
  return bytes;
}

double DecodeInputs::bytesExpected(const reference::Method &method) const {
  double bytes = 0;
  for (int length : lengths) {
    const int64_t most = int64_t(problem.topk) * problem.block;
    const bool isDense = !method.selects || length < method.denseLen;
    bytes += rowBytes() * problem.kvHeads *
             static_cast<double>(isDense ? length : std::min<int64_t>(length, most));
  }
  return bytes;
}

} // namespace winnow
