// A step is a problem of its own: the queries of some tokens, and all keys up to them.
#include "tools/winnow/commands/run/PagedRun.h"
#include "reference/Half.h"
#include "reference/conformance/Append.h"
#include "tools/winnow/io/Flags.h"
#include <algorithm>
#include <fmt/format.h>
#include <limits>

namespace winnow {
namespace {

constexpr int kMostSteps = 100'000;
constexpr int32_t kNowhere = 0x3fffffff; // a page that no pool has
constexpr int kLeastRows = 8;            ///< of a chunk, compared with the reference
const char *const kGroup = "Paged cache";

/// Tokens [begin, end) of every sequence, and all keys before them.
class StepProblem {
public:
  StepProblem(const reference::Problem &all, const std::vector<int> &begins,
              const std::vector<int> &ends)
      : all(all), begins(begins), problem(all) {
    const size_t batch = begins.size();
    problem.cuQ = problem.cuK = {0};
    for (size_t s = 0; s < batch; ++s) {
      const size_t width = static_cast<size_t>(all.heads) * all.headDim;
      const uint16_t *from = all.q + (all.cuQ[s] + begins[s]) * width;
      q.insert(q.end(), from, from + (ends[s] - begins[s]) * width);
      problem.cuQ.push_back(problem.cuQ.back() + ends[s] - begins[s]);
      problem.cuK.push_back(problem.cuK.back() + ends[s]);
    }
    problem.q = q.data();
    if (batch == 1) // the keys so far are where the prompt begins
      return;
    auto pack = [&](std::vector<uint16_t> &to, const uint16_t *from, size_t width) {
      for (size_t s = 0; s < batch; ++s)
        to.insert(to.end(), from + all.cuK[s] * width, from + (all.cuK[s] + ends[s]) * width);
      return to.data();
    };
    problem.k = pack(k, all.k, static_cast<size_t>(all.kvHeads) * all.headDim);
    problem.v = pack(v, all.v, static_cast<size_t>(all.kvHeads) * all.valueWidth());
  }
  StepProblem(const StepProblem &) = delete;
  StepProblem &operator=(const StepProblem &) = delete;

  /// Puts the answers of this step's rows where they belong among those of all rows.
  void scatter(const CaseAnswer &step, int selectHeads, CaseAnswer &whole) const {
    const size_t rows = problem.totalQ(), total = all.totalQ(), topk = all.topk;
    const size_t heads = all.heads, width = heads * all.valueWidth();
    for (size_t s = 0; s < begins.size(); ++s) {
      const size_t from = problem.cuQ[s], count = problem.cuQ[s + 1] - from;
      const size_t to = all.cuQ[s] + begins[s];
      std::copy_n(&step.out[from * width], count * width, &whole.out[to * width]);
      for (size_t head = 0; head < heads; ++head)
        std::copy_n(&step.lse[head * rows + from], count, &whole.lse[head * total + to]);
      for (int head = 0; head < selectHeads; ++head)
        std::copy_n(&step.ids[(head * rows + from) * topk], count * topk,
                    &whole.ids[(head * total + to) * topk]);
    }
  }

private:
  const reference::Problem &all;
  std::vector<int> begins;
  std::vector<uint16_t> q, k, v;

public:
  reference::Problem problem;
};

/// As `winnow run` judges one call: attention over the picks that were made.
void judge(reference::Method method, const reference::Problem &problem, const CaseAnswer &answer,
           int rows, PagedStep &step) {
  if (method.denseByLaunch)
    method.denseLen = answer.denseLength;
  reference::Options options;
  options.rows = reference::sampleRows(problem, rows);
  step.rows = options.rows.size();
  const int32_t *ids = answer.ids.data();
  if (method.selects)
    step.selection = reference::compareSelection(method, problem,
                                                 reference::select(method, problem, options), ids);
  step.output = reference::compareOutput(problem, reference::attend(method, problem, ids, options),
                                         answer.out.data(), answer.lse.data());
  if (step.selection.wrong)
    step.fault = "the selection differs from the reference: " + step.selection.first;
  else if (!step.output.withinBars())
    step.fault = "the output differs from the reference: " + step.output.text();
}

} // namespace

void PagedFlags::addTo(CLI::App &app) {
  command = &app;
  app.add_option("--layout", layout,
                 "Keep keys and values as packed, halves, pages, rows or pairs, and bring the "
                 "prompt in steps")
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--page-size", pageSize, "Tokens of a page")
      ->capture_default_str()
      ->check(between(1, 1 << 20))
      ->group(kGroup);
  app.add_option("--chunk", chunk, "Tokens of each sequence at a time; default: the whole prompt")
      ->check(between(1, kMostTokens))
      ->group(kGroup);
  app.add_option("--decode", steps, "Steps of one token each, behind the prompt")
      ->capture_default_str()
      ->check(between(0, kMostSteps))
      ->group(kGroup);
}

bool PagedFlags::given() const { return !firstGiven(*command, kGroup).empty(); }

Status PagedFlags::check(bool hasFiles, bool hasImage) const {
  const std::string flag = firstGiven(*command, kGroup);
  if (hasFiles)
    return fail(
        ErrorKind::Usage,
        fmt::format("{} is for the structured prompt; --q, --k and --v are one call", flag));
  if (hasImage)
    return fail(ErrorKind::Usage,
                fmt::format("{} needs METHOD: an image does not say what its method means", flag));
  Result<Layout> known = parseLayout(layout);
  if (!known)
    return fail(ErrorKind::Usage, "--layout: " + known.error().message);
  const bool hasPages = *known != Layout::Packed && *known != Layout::Rows;
  if (!hasPages && command->get_option("--page-size")->count() > 0)
    return fail(ErrorKind::Usage,
                fmt::format("--page-size: the layout {} has no pages of a size", layout));
  return {};
}

int64_t PagedCache::capacity(const std::vector<int> &lengths, Layout layout, int pageSize) {
  int64_t tokens = 0, longest = 0;
  for (int length : lengths) {
    const int64_t page = layout == Layout::Packed ? 1 : pageSize;
    tokens += (length + page - 1) / page * page;
    longest = std::max<int64_t>(longest, length);
  }
  const auto batch = static_cast<int64_t>(lengths.size());
  constexpr int64_t spare = 3; // pages of storeTensors that belong to nobody
  return layout == Layout::Rows     ? (batch + spare) * (longest + 5)
         : layout == Layout::Packed ? tokens
                                    : tokens + spare * pageSize;
}

PagedCache::PagedCache(const reference::Problem &all, const reference::Method &method,
                       Layout layout, int pageSize, uint64_t seed)
    : all(all), stored(storeTensors(all, layout, pageSize, seed)) {
  const bool scores = method.selects && method.init + method.local != all.topk;
  if (scores)
    storeRows(summariesOf(method), layout, all, seed, stored);
  places = stored.table;
  std::fill(stored.table.begin(), stored.table.end(), kNowhere);
  std::fill(stored.seqK.begin(), stored.seqK.end(), 0);
  std::fill(
      stored.keyValues.begin(), stored.keyValues.end(),
      reference::toKeyWord(std::numeric_limits<double>::quiet_NaN(), 1, all.kvDtype, all.dtype));
}

void PagedCache::keepRows(CaseAnswer &answer) {
  for (int i = 0; i < kMostRows; ++i)
    if (!stored.rows[i].empty())
      stored.rows[i] = std::move(answer.rows[i]);
}

void PagedCache::copyKey(int sequence, int key) {
  const TensorLayout &layout = stored.layout;
  int64_t slot = key, page = 0;
  if (places.empty()) {
    slot += all.cuK[sequence];
  } else {
    slot += stored.kBegin.empty() ? 0 : stored.kBegin[sequence];
    const int64_t entry = sequence * layout.pageTableStride + slot / layout.pageSize;
    page = stored.table[entry] = places[entry];
    slot %= layout.pageSize;
  }
  const int dim = all.headDim, valueDim = all.valueWidth();
  for (int head = 0; head < all.kvHeads; ++head) {
    const int64_t row = int64_t(all.cuK[sequence] + key) * all.kvHeads + head;
    auto place = [&](const int64_t *stride) {
      return page * stride[0] + slot * stride[1] + head * stride[2];
    };
    std::copy_n(all.k + row * dim, dim, &stored.keyValues[stored.k + place(layout.kStride)]);
    std::copy_n(all.v + row * valueDim, valueDim,
                &stored.keyValues[stored.v + place(layout.vStride)]);
  }
}

void PagedCache::append(const std::vector<int> &lengths) {
  for (size_t s = 0; s < lengths.size(); ++s) {
    for (int key = stored.seqK[s]; key < lengths[s]; ++key)
      copyKey(static_cast<int>(s), key);
    stored.seqK[s] = lengths[s];
  }
}

void PagedCache::setQueries(const std::vector<uint16_t> &q, int rows) {
  const int64_t *stride = stored.layout.qStride;
  const int64_t width = int64_t(all.heads) * all.headDim;
  stored.q.assign(static_cast<size_t>(rows * stride[0]),
                  reference::toWord(std::numeric_limits<double>::infinity(), all.dtype));
  for (int row = 0; row < rows; ++row)
    std::copy_n(&q[row * width], width, &stored.q[row * stride[0]]);
  stored.outElements = static_cast<size_t>(rows * stored.layout.outStride[0]);
}

Fp8Cost fp8CostOf(const Prompt &prompt, const reference::Method &method, const CaseAnswer &answer,
                  int rows) {
  const reference::Problem exact = prompt.exactProblem();
  reference::Options options;
  options.rows = reference::sampleRows(exact, rows);
  for (int row : prompt.questionRows())
    options.rows.push_back(row);
  std::sort(options.rows.begin(), options.rows.end());
  options.rows.erase(std::unique(options.rows.begin(), options.rows.end()), options.rows.end());
  Fp8Cost cost;
  cost.rows = options.rows.size();
  std::vector<int32_t> ids;
  if (method.selects) {
    ids = idsTensor(reference::select(method, exact, options), exact);
    const size_t total = exact.totalQ(), topk = exact.topk;
    for (int head = 0; head < exact.selectHeads(method); ++head)
      for (int row : options.rows) {
        const size_t at = (head * total + row) * topk;
        const int32_t *made = &answer.ids[at];
        for (size_t i = 0; i < topk && ids[at + i] >= 0; ++i) {
          ++cost.picks;
          cost.alike += std::find(made, made + topk, ids[at + i]) != made + topk;
        }
      }
    cost.exact = recallOf(prompt, method, ids.data());
  }
  const reference::Attention expected = attend(method, exact, ids.data(), options);
  const size_t width = static_cast<size_t>(exact.heads) * exact.valueWidth();
  double difference = 0, size = 0;
  for (size_t i = 0; i < options.rows.size(); ++i)
    for (size_t e = 0; e < width; ++e) {
      const double value = expected.out[i * width + e];
      const double got = reference::fromWord(answer.out[options.rows[i] * width + e], exact.dtype);
      difference += (got - value) * (got - value);
      size += value * value;
    }
  cost.error = size > 0 ? std::sqrt(difference / size) : 0;
  return cost;
}

Result<PagedOutcome> runPaged(Backend &backend, BackendCall call, const Prompt &prompt,
                              const reference::Method &method, const PagedFlags &flags, int rows,
                              const std::function<void(double)> &progress) {
  const reference::Problem &all = prompt.problem;
  WINNOW_TRY(Layout layout, parseLayout(flags.layout));
  PagedCache cache(all, method, layout, flags.pageSize, 1);
  std::vector<int> lengths; // of the prompt, without what is decoded
  for (size_t s = 0; s + 1 < all.cuQ.size(); ++s)
    lengths.push_back(all.cuQ[s + 1] - all.cuQ[s] - flags.steps);
  const int longest = *std::max_element(lengths.begin(), lengths.end());
  const int chunk = flags.chunk ? flags.chunk : std::max(1, longest);
  const int chunks = (longest + chunk - 1) / chunk, calls = chunks + flags.steps;

  PagedOutcome outcome;
  BackendAnswer &whole = outcome.answer;
  std::vector<int> begins, ends(lengths.size(), 0);
  for (int i = 0; i < calls; ++i) {
    PagedStep step;
    step.decodes = i >= chunks;
    step.begin = step.decodes ? longest + i - chunks : i * chunk;
    step.end = step.decodes ? step.begin + 1 : std::min(longest, step.begin + chunk);
    begins = ends;
    for (size_t s = 0; s < lengths.size(); ++s)
      ends[s] = step.decodes ? lengths[s] + i - chunks + 1 : std::min(lengths[s], (i + 1) * chunk);
    const StepProblem now(all, begins, ends);
    cache.append(ends);
    cache.setQueries(
        {now.problem.q, now.problem.q + size_t(now.problem.totalQ()) * all.heads * all.headDim},
        now.problem.totalQ());
    // Room and upper bounds stay those of the whole sequences, as in a captured graph.
    reference::Problem sizes = now.problem;
    sizes.cuK = all.cuK;
    call.problem = &sizes;
    call.stored = &cache.tensors();
    WINNOW_TRY(BackendAnswer answer, backend.run(call));
    step.milliseconds = answer.totalMs();
    cache.keepRows(answer.tensors);
    judge(method, now.problem, answer.tensors,
          step.decodes ? now.problem.totalQ() : std::max(kLeastRows, rows / chunks), step);
    if (i == 0) {
      const size_t total = all.totalQ();
      whole.selectHeads = answer.selectHeads;
      whole.prepareMs = answer.prepareMs;
      whole.tensors.out.resize(total * all.heads * all.valueWidth());
      whole.tensors.lse.resize(total * all.heads);
      whole.tensors.ids.resize(total * answer.selectHeads * all.topk);
    }
    now.scatter(answer.tensors, answer.selectHeads, whole.tensors);
    whole.selectMs += answer.selectMs;
    whole.attendMs += answer.attendMs;
    outcome.steps.push_back(std::move(step));
    progress(static_cast<double>(i + 1) / calls);
  }
  return outcome;
}

} // namespace winnow
