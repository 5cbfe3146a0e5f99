// Pools are filled a piece at a time; a graph holds a launch of every set.
#include "tools/winnow/commands/bench/DecodeBench.h"
#include "reference/Compare.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/backends/Backend.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <map>
#include <numeric>

namespace winnow {
namespace {

constexpr int kMostSets = 256;
constexpr int kLeastLaunches = 16;   ///< of a graph, so that its own start does not count
constexpr int kKernelLaunches = 9;   ///< with an event after each kernel, for the breakdown
constexpr double kMemoryShare = 0.9; ///< of the free device memory: the driver wants some

Result<DeviceBuffer> uploaded(const std::shared_ptr<Driver> &driver, const void *host,
                              size_t bytes) {
  DeviceBuffer buffer;
  WINNOW_TRY(buffer, DeviceBuffer::allocate(driver, std::max<size_t>(bytes, 256)));
  WINNOW_CHECK(buffer.upload(host, bytes));
  return buffer;
}

template <typename T>
Result<DeviceBuffer> uploaded(const std::shared_ptr<Driver> &driver, const std::vector<T> &list) {
  return uploaded(driver, list.data(), list.size() * sizeof(T));
}

/// Of `count` sequences spread over a batch, both ends among them.
std::vector<int> spread(int batch, int count) {
  std::vector<int> chosen;
  count = std::clamp(count, 1, batch);
  for (int i = 0; i < count; ++i)
    chosen.push_back(count == 1 ? batch - 1
                                : static_cast<int>(int64_t(i) * (batch - 1) / (count - 1)));
  return chosen;
}

} // namespace

Result<std::unique_ptr<DecodeBench>> DecodeBench::open(const std::string &name) {
  auto bench = std::make_unique<DecodeBench>();
  WINNOW_CHECK(bench->openDevice(name));
  return bench;
}

int64_t DecodeBench::ownSlots() const {
  const TensorLayout &layout = inputs->pool.layout;
  int64_t slots = 0;
  for (const SummaryShape &summary : summaries)
    if (layout.pageSize % summary.stride != 0)
      for (const SummaryShape &any : summaries)
        slots = std::max<int64_t>(slots, inputs->longest() / any.stride + 1);
  return slots;
}

size_t DecodeBench::rowsBytes(size_t index) const {
  TensorLayout layout = inputs->pool.layout;
  const bool paged = layout.pageSize > 0;
  const int64_t slots =
      ownSlots() > 0 ? ownSlots() * int64_t(inputs->lengths.size())
      : paged
          ? int64_t(inputs->parts()) * (layout.pageSize / summaries[index].stride)
          : int64_t(inputs->lengths.size()) * layout.rowsPage(summaries[index], inputs->longest());
  return sizeof(uint16_t) * slots * inputs->problem.kvHeads * inputs->problem.headDim;
}

/// Room for the rows, and the rows of all keys: as after a prompt.
Status DecodeBench::makeRows(const Variant &variant, Set &set) const {
  for (size_t i = 0; i < summaries.size(); ++i) {
    WINNOW_TRY(set.rows[i], poisonedBuffer(driver, rowsBytes(i)));
  }
  if (const int64_t slots = ownSlots(); slots > 0) {
    std::vector<int32_t> table(slots * inputs->lengths.size());
    std::iota(table.begin(), table.end(), 0);
    WINNOW_TRY(set.rowsTable, uploaded(driver, table));
  }
  if (summaries.empty())
    return {};
  WINNOW_CHECK(finishUploads());
  LaunchArgs whole = args(set, Phase::Append); // as if all keys were new
  whole.cuQ = whole.cuK;
  whole.shape.totalQ = whole.shape.totalK;
  whole.shape.maxQ = whole.shape.maxK;
  return variant.program->launch(whole, stream->get(), nullptr, 0);
}

size_t DecodeBench::setBytes() const {
  const reference::Problem &problem = inputs->problem;
  const size_t tokens = problem.totalQ(), heads = problem.heads;
  size_t rows = 0;
  for (size_t i = 0; i < summaries.size(); ++i)
    rows += rowsBytes(i);
  return rows + problem.keyElementBytes() * (inputs->elements(false) + inputs->elements(true)) +
         sizeof(uint16_t) * tokens * heads * (problem.headDim + problem.valueWidth()) +
         sizeof(float) * tokens * heads +
         sizeof(int32_t) * (tokens * selectHeads * problem.topk +
                            inputs->lengths.size() * (inputs->tableStride + 4));
}

Result<DecodeBench::Set> DecodeBench::makeSet(int index) const {
  const reference::Problem &problem = inputs->problem;
  const size_t tokens = problem.totalQ(), heads = problem.heads;
  Set set;
  const std::vector<int32_t> table = inputs->table(index);
  WINNOW_TRY(set.keys, uploadedPool(driver, *inputs, table, false));
  if (!inputs->pool.together) {
    WINNOW_TRY(set.values, uploadedPool(driver, *inputs, table, true));
  }
  WINNOW_TRY(set.q, uploaded(driver, problem.q, tokens * heads * problem.headDim * 2));
  if (!problem.kScale.empty()) {
    WINNOW_TRY(set.kScale, uploaded(driver, problem.kScale));
    WINNOW_TRY(set.vScale, uploaded(driver, problem.vScale));
  }
  WINNOW_TRY(set.cuQ, uploaded(driver, problem.cuQ));
  WINNOW_TRY(set.cuK, uploaded(driver, problem.cuK));
  WINNOW_TRY(set.seqK, uploaded(driver, inputs->lengths));
  if (!table.empty()) {
    WINNOW_TRY(set.table, uploaded(driver, table));
  }
  if (!inputs->kBegin.empty()) {
    WINNOW_TRY(set.kBegin, uploaded(driver, inputs->kBegin));
  }
  WINNOW_TRY(set.out, poisonedBuffer(driver, tokens * heads * problem.valueWidth() * 2));
  WINNOW_TRY(set.lse, poisonedBuffer(driver, tokens * heads * sizeof(float)));
  WINNOW_TRY(set.ids,
             poisonedBuffer(driver, tokens * selectHeads * problem.topk * sizeof(int32_t)));
  return set;
}

Result<std::string> DecodeBench::place(const DecodeInputs &placed, const reference::Method &method,
                                       const Variant &variant) {
  sets.clear(); // frees what the last row had, before more is asked for
  workspace = {};
  inputs = &placed;
  summaries = variant.image->summaries;
  selectHeads = placed.problem.selectHeads(method);
  size_t workspaceBytes = 0, free = 0, total = 0;
  WINNOW_TRY(workspaceBytes, variant.program->workspaceSize(args({}, Phase::All).shape));
  WINNOW_CHECK(driver->check(driver->api().cuMemGetInfo_v2(&free, &total), "asking for memory"));
  const double room =
      kMemoryShare * static_cast<double>(free) - static_cast<double>(workspaceBytes);
  const auto each = static_cast<double>(setBytes());
  if (each > room)
    return fmt::format("keys, values and workspace need {:.1f} GiB, {:.1f} of {:.1f} are free",
                       (each + static_cast<double>(workspaceBytes)) / (1 << 30),
                       static_cast<double>(free) / (1 << 30),
                       static_cast<double>(total) / (1 << 30));
  const double cold = std::ceil(kColdBytes / std::max(1.0, placed.bytesExpected(method)));
  const double most = std::min({cold, std::min(room, kMostBytes) / each, double(kMostSets)});
  const int count = emulated() ? 2 : static_cast<int>(std::max(1.0, most));
  WINNOW_TRY([[maybe_unused]] const bool moved, reserve(variant));
  for (int i = 0; i < count; ++i) {
    WINNOW_TRY(Set made, makeSet(i));
    WINNOW_CHECK(makeRows(variant, made));
    sets.push_back(std::move(made));
  }
  WINNOW_CHECK(finishUploads());
  return std::string();
}

Result<bool> DecodeBench::reserve(const Variant &variant) {
  size_t bytes = 0;
  WINNOW_TRY(bytes, variant.program->workspaceSize(args({}, Phase::All).shape));
  if (workspace.size() >= bytes)
    return false;
  WINNOW_TRY(workspace, poisonedBuffer(driver, bytes));
  return true;
}

/// The copy of pageable memory may go on when its call has returned, and our stream waits for none.
Status DecodeBench::finishUploads() const {
  return driver->check(driver->api().cuCtxSynchronize(), "waiting for uploads");
}

bool DecodeBench::cold(const reference::Method &method) const {
  const double enough =
      device.l2Bytes > 0 ? std::min(kColdBytes, 2.0 * device.l2Bytes) : kColdBytes;
  return setCount() * inputs->bytesExpected(method) >= enough;
}

Status DecodeBench::placeIds(const std::vector<int32_t> &ids) {
  for (Set &set : sets)
    WINNOW_CHECK(set.ids.upload(ids.data(), ids.size() * sizeof(int32_t)));
  return finishUploads();
}

/// The one place where a launch's tensors are named.
LaunchArgs DecodeBench::args(const Set &set, Phase phase) const {
  const reference::Problem &problem = inputs->problem;
  LaunchArgs args;
  args.phase = phase;
  args.q = set.q.data();
  args.k = set.keys.data();
  args.v = inputs->pool.together
               ? set.keys.data<uint8_t>() + problem.keyElementBytes() * inputs->pool.valueOffset
               : set.values.data<uint8_t>();
  args.kScale = set.kScale.data<float>();
  args.vScale = set.vScale.data<float>();
  args.out = set.out.data();
  args.lse = set.lse.data<float>();
  args.ids = set.ids.data<int>();
  args.cuQ = set.cuQ.data<int>();
  args.cuK = set.cuK.data<int>();
  args.shape.batch = static_cast<int>(inputs->lengths.size());
  args.shape.totalQ = problem.totalQ();
  args.shape.totalK = problem.cuK.back();
  args.shape.maxQ = problem.cuQ[1];
  args.shape.maxK = inputs->longest();
  args.layout = inputs->pool.layout;
  args.layout.seqK = set.seqK.data<int>();
  args.layout.pageTable = set.table.data<int>();
  args.layout.pageTableStride = inputs->tableStride;
  args.layout.kBegin = set.kBegin.data<int>();
  for (size_t i = 0; i < summaries.size(); ++i) {
    args.rows[i] = set.rows[i].data();
    // Head-major pages: a head's rows follow each other.
    const int64_t dim = problem.headDim,
                  slots = ownSlots() > 0 ? 1 : args.layout.rowsPage(summaries[i], args.shape.maxK);
    int64_t *stride = args.layout.rowsStride[i];
    stride[0] = slots * problem.kvHeads * dim, stride[1] = dim, stride[2] = slots * dim;
  }
  if (const int64_t slots = ownSlots(); slots > 0) {
    args.layout.rowsTable = set.rowsTable.data<int>();
    args.layout.rowsTableStride = slots;
  }
  return args;
}

Status DecodeBench::launch(const Variant &variant, const Set &set, Phase phase,
                           KernelTimer *timer) const {
  return variant.program->launch(args(set, phase), stream->get(), workspace.data(),
                                 workspace.size(), timer ? KernelTimer::observe : nullptr, timer);
}

Result<DecodeTiming> DecodeBench::measure(const reference::Method &method, const Variant &variant,
                                          Phase phase, int rounds, int rows) {
  DecodeTiming timing;
  WINNOW_CHECK(check(method, variant, phase, rows, timing));
  WINNOW_CHECK(time(variant, phase, rounds, timing));
  WINNOW_CHECK(kernelTimes(variant, phase, rounds, timing));
  return timing;
}

Status DecodeBench::download(const Set &set, CaseAnswer &result) const {
  const reference::Problem &problem = inputs->problem;
  const size_t tokens = problem.totalQ(), heads = problem.heads;
  result.out.resize(tokens * heads * problem.valueWidth());
  result.lse.resize(tokens * heads);
  result.ids.resize(tokens * selectHeads * problem.topk);
  WINNOW_CHECK(set.out.download(result.out.data(), result.out.size() * sizeof(uint16_t)));
  WINNOW_CHECK(set.lse.download(result.lse.data(), result.lse.size() * sizeof(float)));
  return set.ids.download(result.ids.data(), result.ids.size() * sizeof(int32_t));
}

Result<std::string> DecodeBench::check(const reference::Method &method, const Variant &variant,
                                       Phase phase, int rows) {
  DecodeTiming timing;
  WINNOW_CHECK(check(method, variant, phase, rows, timing));
  return timing.fault;
}

Status DecodeBench::check(const reference::Method &method, const Variant &variant, Phase phase,
                          int rows, DecodeTiming &timing) {
  CaseAnswer other;
  for (size_t i = 0; i < sets.size(); ++i) {
    // What an earlier launch wrote must not pass for this one's answer.
    WINNOW_CHECK(sets[i].out.fill(0xff));
    WINNOW_CHECK(sets[i].lse.fill(0xff));
    if (phase != Phase::Attend)
      WINNOW_CHECK(sets[i].ids.fill(0xff));
    WINNOW_CHECK(launch(variant, sets[i], phase, nullptr));
    WINNOW_CHECK(stream->synchronize());
    if (i > 0 && rows == 0)
      continue;
    WINNOW_CHECK(download(sets[i], i == 0 ? answer : other));
    if (i > 0 && (other.out != answer.out || other.ids != answer.ids || other.lse != answer.lse) &&
        timing.fault.empty())
      timing.fault = fmt::format("set {} of the tensors gives other answers than set 0, from the "
                                 "same numbers in other pages",
                                 i);
  }
  timing.bytesRead = inputs->bytesRead(method, answer.ids.data(), phase == Phase::All);
  if (rows > 0 && timing.fault.empty()) {
    WINNOW_TRY(timing.fault, compare(method, phase, rows));
  }
  return {};
}

/// The first fault in some sequences of the first set, or empty.
Result<std::string> DecodeBench::compare(const reference::Method &method, Phase phase, int rows) {
  const reference::Problem &whole = inputs->problem;
  const size_t total = whole.totalQ(), heads = whole.heads, topk = whole.topk;
  const size_t width = heads * whole.valueWidth();
  const int queries = whole.cuQ[1];
  const int batch = static_cast<int>(inputs->lengths.size());
  for (int s : spread(batch, rows / queries)) {
    const reference::Problem one = inputs->sequence(s);
    const size_t first = whole.cuQ[s], count = one.totalQ();
    std::vector<int32_t> ids(selectHeads * count * topk);
    std::vector<float> lse(heads * count);
    for (int head = 0; head < selectHeads; ++head)
      std::copy_n(&answer.ids[(head * total + first) * topk], count * topk,
                  &ids[head * count * topk]);
    for (size_t head = 0; head < heads; ++head)
      std::copy_n(&answer.lse[head * total + first], count, &lse[head * count]);
    if (phase != Phase::Attend && method.selects) {
      auto report =
          reference::compareSelection(method, one, reference::select(method, one), ids.data());
      if (report.wrong > 0)
        return fmt::format("sequence {}: {}", s, report.first);
    }
    auto report = reference::compareOutput(one, reference::attend(method, one, ids.data()),
                                           &answer.out[first * width], lse.data());
    if (!report.withinBars())
      return fmt::format("sequence {}: {}", s, report.text());
  }
  return std::string();
}

Result<DecodeTurn> DecodeBench::turn(const Variant &variant, Phase phase) const {
  const int each = setCount(), turns = (kLeastLaunches + each - 1) / each;
  DecodeTurn made{&variant, phase, emulated() ? each : turns * each, std::nullopt};
  if (emulated())
    return made;
  WINNOW_TRY(LaunchGraph captured,
             LaunchGraph::capture(driver, stream->get(), [&] { return launchInTurn(made); }));
  made.graph.emplace(std::move(captured));
  return made;
}

Status DecodeBench::launchInTurn(const DecodeTurn &turn) const {
  for (int i = 0; i < turn.launches; ++i)
    WINNOW_CHECK(launch(*turn.variant, sets[i % sets.size()], turn.phase, nullptr));
  return {};
}

Result<double> DecodeBench::timed(const DecodeTurn &turn, int *megahertz) const {
  WINNOW_TRY(Event begin, Event::create(driver));
  WINNOW_TRY(Event end, Event::create(driver));
  WINNOW_CHECK(begin.record(stream->get()));
  WINNOW_CHECK(turn.graph ? turn.graph->replay(stream->get()) : launchInTurn(turn));
  WINNOW_CHECK(end.record(stream->get()));
  if (megahertz)
    *megahertz = clock->smMegahertz();
  WINNOW_CHECK(end.synchronize());
  float milliseconds = 0;
  WINNOW_TRY(milliseconds, end.millisecondsSince(begin));
  return 1000 * static_cast<double>(milliseconds) / turn.launches;
}

Status DecodeBench::time(const Variant &variant, Phase phase, int rounds, DecodeTiming &timing) {
  WINNOW_TRY(const DecodeTurn all, turn(variant, phase));
  std::vector<double> times, clocks;
  for (int round = 0; round <= rounds; ++round) {
    int megahertz = 0;
    WINNOW_TRY(const double one, timed(all, &megahertz));
    if (round == 0)
      continue; // warms up
    times.push_back(one);
    clocks.push_back(megahertz);
  }
  timing.medianUs = median(times);
  timing.fastestUs = *std::min_element(times.begin(), times.end());
  timing.clock = static_cast<int>(median(clocks));
  return {};
}

Status DecodeBench::kernelTimes(const Variant &variant, Phase phase, int rounds,
                                DecodeTiming &timing) {
  std::map<std::string, std::vector<double>> times;
  for (int i = 0; i < std::min(rounds, kKernelLaunches); ++i) {
    KernelTimer timer(driver);
    WINNOW_CHECK(timer.begin(stream->get()));
    WINNOW_CHECK(launch(variant, sets[i % sets.size()], phase, &timer));
    KernelTimes one;
    WINNOW_TRY(one, timer.finish());
    for (const auto &[name, time] : one.kernels)
      times[name].push_back(time);
  }
  for (const Kernel &kernel : variant.image->kernels)
    if (auto found = times.find(kernel.name); found != times.end())
      timing.kernels.emplace_back(kernel.name, 1000 * median(found->second));
  return {};
}

} // namespace winnow
