// Copies a case's packed tensors into the layouts of hosts: pages in random order among spare ones.
#include "reference/conformance/Layout.h"
#include "reference/Half.h"
#include "reference/conformance/Random.h"
#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <limits>
#include <numeric>
#include <utility>

namespace winnow {
namespace {

constexpr int kSparePages = 3;
constexpr int32_t kNowhere = 0x3fffffff; // a page that no pool has

} // namespace

Result<Layout> parseLayout(const std::string &name) {
  static const std::pair<const char *, Layout> layouts[] = {{"packed", Layout::Packed},
                                                            {"halves", Layout::Halves},
                                                            {"pages", Layout::Pages},
                                                            {"rows", Layout::Rows},
                                                            {"pairs", Layout::Pairs}};
  for (const auto &[known, layout] : layouts)
    if (name == known)
      return layout;
  return fail(
      ErrorKind::Usage,
      fmt::format("layout '{}' is not known: take packed, halves, pages, rows or pairs", name));
}

PagePool pagePool(const reference::Problem &problem, Layout layout, int pageSize, int64_t gap) {
  const int64_t heads = problem.kvHeads, dim = problem.headDim, valueDim = problem.valueWidth(),
                page = pageSize;
  PagePool pool;
  pool.layout.pageSize = pageSize;
  pool.together = layout == Layout::Halves || layout == Layout::Pairs;
  pool.keyElements = page * heads * (pool.together ? dim + valueDim : dim) + gap;
  pool.valueElements = pool.together ? 0 : page * heads * valueDim + gap;
  auto set = [&](int64_t *stride, int64_t whole, int64_t token, int64_t head) {
    stride[0] = whole, stride[1] = token, stride[2] = head;
  };
  int64_t *k = pool.layout.kStride, *v = pool.layout.vStride;
  switch (layout) {
  case Layout::Halves:
    set(k, pool.keyElements, dim + valueDim, page * (dim + valueDim));
    set(v, pool.keyElements, dim + valueDim, page * (dim + valueDim));
    pool.valueOffset = dim;
    break;
  case Layout::Pairs:
    set(k, pool.keyElements, heads * dim, dim);
    set(v, pool.keyElements, heads * valueDim, valueDim);
    pool.valueOffset = page * heads * dim;
    break;
  case Layout::Rows: // a tensor each, head-major
    set(k, pool.keyElements, dim, page * dim);
    set(v, pool.valueElements, valueDim, page * valueDim);
    break;
  default: // Packed, Pages: a tensor each, token-major
    set(k, pool.keyElements, heads * dim, dim);
    set(v, pool.valueElements, heads * valueDim, valueDim);
  }
  return pool;
}

StoredTensors storeTensors(const reference::Problem &problem, Layout layout, int pageSize,
                           uint64_t seed, int64_t gap) {
  const int batch = static_cast<int>(problem.cuK.size()) - 1;
  const int64_t dim = problem.headDim, valueDim = problem.valueWidth();
  StoredTensors stored;
  for (int s = 0; s < batch; ++s)
    stored.seqK.push_back(problem.cuK[s + 1] - problem.cuK[s]);
  const int maxK = *std::max_element(stored.seqK.begin(), stored.seqK.end());
  const bool isPacked = layout == Layout::Packed;
  const PagePool pool = pagePool(problem, layout,
                                 layout == Layout::Rows ? (maxK + 68) / 64 * 64
                                 : isPacked             ? 0
                                                        : pageSize,
                                 gap);
  stored.layout = pool.layout;

  // A page of its own for every part of a sequence, in random order among spare ones.
  int pages = 0;
  if (!isPacked) {
    stored.layout.pageTableStride =
        std::max(1, (maxK + stored.layout.pageSize - 1) / stored.layout.pageSize) + 2;
    stored.table.assign(batch * stored.layout.pageTableStride, kNowhere);
    for (int s = 0; s < batch; ++s) {
      const int used = (stored.seqK[s] + stored.layout.pageSize - 1) / stored.layout.pageSize;
      for (int i = 0; i < used; ++i)
        stored.table[s * stored.layout.pageTableStride + i] = pages++;
      if (layout == Layout::Rows) // keys stand at the end of their row
        stored.kBegin.push_back(stored.layout.pageSize - stored.seqK[s]);
    }
    std::vector<int32_t> places(pages + kSparePages);
    std::iota(places.begin(), places.end(), 0);
    for (size_t i = places.size(); i > 1; --i)
      std::swap(places[i - 1], places[randomBits(seed, i) % i]);
    for (int32_t &page : stored.table)
      if (page != kNowhere)
        page = places[page];
    pages += kSparePages;
  }

  const int64_t rowsOfHeads =
      isPacked ? int64_t(problem.cuK.back() + problem.spareKeys) * problem.kvHeads : 0;
  const int64_t keyElements = isPacked ? rowsOfHeads * dim : pages * pool.keyElements,
                valueElements = isPacked ? rowsOfHeads * valueDim : pages * pool.valueElements;
  stored.v = static_cast<size_t>(pool.together ? pool.valueOffset : (keyElements + 15) / 16 * 16);
  stored.keyValues.assign(static_cast<size_t>(keyElements + valueElements + 16),
                          reference::toKeyWord(std::numeric_limits<double>::quiet_NaN(), 1,
                                               problem.kvDtype, problem.dtype));
  for (int s = 0; s < batch; ++s)
    for (int key = 0; key < stored.seqK[s]; ++key) {
      int64_t slot = key, page = 0;
      if (isPacked) {
        slot += problem.cuK[s];
      } else {
        slot += stored.kBegin.empty() ? 0 : stored.kBegin[s];
        page = stored.table[s * stored.layout.pageTableStride + slot / stored.layout.pageSize];
        slot %= stored.layout.pageSize;
      }
      for (int head = 0; head < problem.kvHeads; ++head) {
        const int64_t row = int64_t(problem.cuK[s] + key) * problem.kvHeads + head;
        auto place = [&](const int64_t *stride) {
          return page * stride[0] + slot * stride[1] + head * stride[2];
        };
        std::copy_n(problem.k + row * dim, dim, &stored.keyValues[place(stored.layout.kStride)]);
        std::copy_n(problem.v + row * valueDim, valueDim,
                    &stored.keyValues[stored.v + place(stored.layout.vStride)]);
      }
    }

  // Queries and output: a spare head behind the last one, so that no token follows the other.
  const int heads = problem.heads, rows = problem.totalQ();
  stored.layout.qStride[1] = dim, stored.layout.qStride[0] = (heads + 1) * dim;
  stored.layout.outStride[1] = valueDim, stored.layout.outStride[0] = (heads + 1) * valueDim;
  stored.q.assign(static_cast<size_t>(rows * stored.layout.qStride[0]),
                  reference::toWord(std::numeric_limits<double>::infinity(), problem.dtype));
  for (int row = 0; row < rows; ++row)
    std::copy_n(problem.q + row * heads * dim, heads * dim,
                &stored.q[row * stored.layout.qStride[0]]);
  stored.outElements = static_cast<size_t>(rows * stored.layout.outStride[0]);
  return stored;
}

std::vector<uint8_t> bytesOfKeys(const reference::Problem &problem,
                                 const std::vector<uint16_t> &words) {
  if (problem.keyElementBytes() == 1)
    return {words.begin(), words.end()};
  std::vector<uint8_t> bytes(words.size() * sizeof(uint16_t));
  std::memcpy(bytes.data(), words.data(), bytes.size());
  return bytes;
}

void storeRows(const std::vector<SummaryShape> &summaries, Layout layout,
               const reference::Problem &problem, uint64_t seed, StoredTensors &stored) {
  const int batch = static_cast<int>(stored.seqK.size()), dim = problem.headDim;
  const int maxK = *std::max_element(stored.seqK.begin(), stored.seqK.end());
  const bool ownTable = !stored.table.empty() &&
                        std::any_of(summaries.begin(), summaries.end(), [&](SummaryShape shape) {
                          return stored.layout.pageSize % shape.stride != 0;
                        });
  int pages = batch;
  for (int32_t page : stored.table)
    if (page != kNowhere)
      pages = std::max(pages, page + kSparePages);
  if (ownTable) { // slots in random order; those without a row in any summary have none
    int finest = maxK, unused = maxK;
    for (const SummaryShape &shape : summaries) {
      finest = std::min(finest, shape.stride);
      unused = std::min(unused, (shape.window - 1) / shape.stride);
    }
    stored.layout.rowsTableStride = std::max(1, maxK / finest);
    stored.rowsTable.assign(batch * stored.layout.rowsTableStride, kNowhere);
    std::vector<int32_t> places(stored.rowsTable.size() + kSparePages);
    std::iota(places.begin(), places.end(), 0);
    for (size_t i = places.size(); i > 1; --i)
      std::swap(places[i - 1], places[randomBits(seed + 1, i) % i]);
    for (int s = 0; s < batch; ++s)
      for (int slot = unused; slot < stored.seqK[s] / finest; ++slot) {
        const auto entry = static_cast<size_t>(s * stored.layout.rowsTableStride + slot);
        stored.rowsTable[entry] = places[entry];
      }
    pages = static_cast<int>(places.size());
  }
  const bool headMajor = layout == Layout::Halves || layout == Layout::Rows;
  for (size_t i = 0; i < summaries.size(); ++i) {
    const int64_t slots = ownTable ? 1
                          : !stored.table.empty()
                              ? stored.layout.pageSize / summaries[i].stride
                              : std::max(1, (maxK + summaries[i].stride - 1) / summaries[i].stride);
    int64_t *stride = stored.layout.rowsStride[i];
    stride[0] = slots * problem.kvHeads * dim;
    stride[1] = headMajor ? dim : problem.kvHeads * dim;
    stride[2] = headMajor ? slots * dim : dim;
    stored.rows[i].assign(
        static_cast<size_t>(pages * stride[0]),
        reference::toWord(std::numeric_limits<double>::quiet_NaN(), problem.dtype));
  }
}

size_t placeOfRow(const StoredTensors &stored, const SummaryShape &summary, int index, int sequence,
                  int row, int head) {
  const int64_t *stride = stored.layout.rowsStride[index];
  const int64_t slot = row + (summary.window - 1) / summary.stride;
  int64_t page = sequence, place = slot;
  if (!stored.rowsTable.empty()) {
    page = stored.rowsTable[sequence * stored.layout.rowsTableStride + slot], place = 0;
  } else if (!stored.table.empty()) {
    const int slots = stored.layout.pageSize / summary.stride;
    page = stored.table[sequence * stored.layout.pageTableStride + slot / slots];
    place = slot % slots;
  }
  return static_cast<size_t>(page * stride[0] + place * stride[1] + head * stride[2]);
}

Result<std::vector<uint16_t>> packOutput(const reference::Problem &problem,
                                         const StoredTensors &stored,
                                         const std::vector<uint16_t> &out, uint16_t untouched) {
  const int64_t row = int64_t(problem.heads) * problem.valueWidth();
  std::vector<uint16_t> packed(static_cast<size_t>(problem.totalQ() * row));
  for (int token = 0; token < problem.totalQ(); ++token) {
    const uint16_t *from = &out[static_cast<size_t>(token * stored.layout.outStride[0])];
    std::copy_n(from, row, &packed[static_cast<size_t>(token * row)]);
    for (int64_t i = row; i < stored.layout.outStride[0]; ++i)
      if (from[i] != untouched)
        return fail(ErrorKind::Usage,
                    fmt::format("the output of token {} reaches beyond its {} heads", token,
                                problem.heads));
  }
  return packed;
}

} // namespace winnow
