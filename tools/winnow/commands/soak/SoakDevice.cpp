// All uploads come before a launch, all waiting behind it: between them is the replay alone.
#include "tools/winnow/commands/soak/SoakDevice.h"
#include <fmt/format.h>

namespace winnow {

Result<std::unique_ptr<SoakDevice>> SoakDevice::open(const std::string &name, int limit) {
  auto soak = std::make_unique<SoakDevice>();
  WINNOW_TRY(soak->driver, launchDevice(name, soak->device, soak->form));
  WINNOW_CHECK(soak->driver->makeCurrent(soak->device.index));
  WINNOW_TRY(Stream made, Stream::create(soak->driver));
  soak->stream.emplace(std::move(made));
  soak->watchdog.emplace(soak->emulated() ? 0 : limit);
  return soak;
}

Status SoakDevice::place(const SoakInputs &placed, std::shared_ptr<const ProgramImage> image,
                         const std::vector<Phase> &phases, bool direct) {
  inputs = &placed;
  LoadOptions options;
  options.device = device.index;
  WINNOW_TRY(program, LoadedProgram::load(std::move(image), driver, options));
  const reference::Problem &problem = inputs->problem;
  const size_t batch = inputs->shape.batch, tokens = inputs->shape.totalQ(), heads = problem.heads,
               lists = sizeof(int32_t) * tokens * inputs->selectHeads * problem.topk;
  auto make = [&](DeviceBuffer &buffer, size_t bytes) -> Status {
    WINNOW_TRY(buffer, poisonedBuffer(driver, bytes));
    return {};
  };
  for (bool ofValues : {false, true}) {
    const std::vector<uint16_t> words = inputs->poolWords(ofValues);
    DeviceBuffer &buffer = ofValues ? values : keys;
    const std::vector<uint8_t> bytes = bytesOfKeys(problem, words);
    WINNOW_CHECK(make(buffer, bytes.size()));
    WINNOW_CHECK(upload(buffer, bytes));
  }
  WINNOW_CHECK(make(kScale, problem.kScale.size() * sizeof(float)));
  WINNOW_CHECK(make(vScale, problem.vScale.size() * sizeof(float)));
  WINNOW_CHECK(upload(kScale, problem.kScale));
  WINNOW_CHECK(upload(vScale, problem.vScale));
  WINNOW_CHECK(make(q, tokens * heads * problem.headDim * sizeof(uint16_t)));
  WINNOW_CHECK(make(out, tokens * heads * problem.valueWidth() * sizeof(uint16_t)));
  WINNOW_CHECK(make(lse, tokens * heads * sizeof(float)));
  WINNOW_CHECK(make(ids, lists));
  WINNOW_CHECK(make(givenIds, lists));
  WINNOW_CHECK(make(seqK, batch * sizeof(int32_t)));
  WINNOW_CHECK(make(kBegin, batch * sizeof(int32_t)));
  WINNOW_CHECK(make(cuQ, (batch + 1) * sizeof(int32_t)));
  WINNOW_CHECK(make(table, batch * inputs->tableStride() * sizeof(int32_t)));
  WINNOW_CHECK(makeRows());
  WINNOW_TRY(const size_t bytes, program->workspaceSize(args(Phase::All).shape));
  WINNOW_CHECK(make(workspace, bytes));

  std::vector<Phase> wanted = phases;
  if (!inputs->summaries.empty())
    wanted.push_back(Phase::Append);
  for (Phase phase : wanted) {
    Launch &one = captured[phase];
    one.args = args(phase);
    if (direct || emulated())
      continue;
    auto enqueue = [&] {
      return program->launch(one.args, stream->get(), workspace.data(), workspace.size());
    };
    WINNOW_TRY(LaunchGraph graph, LaunchGraph::capture(driver, stream->get(), enqueue));
    one.graph.emplace(std::move(graph));
  }
  return {};
}

Status SoakDevice::makeRows() {
  const std::vector<SummaryShape> &summaries = inputs->summaries;
  for (size_t i = 0; i < summaries.size(); ++i) {
    const int64_t slots =
        inputs->ownSlots() > 0 ? 1 : inputs->pool.layout.pageSize / summaries[i].stride;
    WINNOW_TRY(rows[i],
               poisonedBuffer(driver, sizeof(uint16_t) * inputs->rowPages() * slots *
                                          inputs->problem.kvHeads * inputs->problem.headDim));
  }
  if (inputs->ownSlots() > 0) {
    WINNOW_TRY(rowsTable,
               poisonedBuffer(driver, sizeof(int32_t) * inputs->shape.batch * inputs->ownSlots()));
  }
  return {};
}

/// The one place where a launch's tensors are named. There is no cu_k: lengths are in seq_k.
LaunchArgs SoakDevice::args(Phase phase) const {
  const SoakShape &shape = inputs->shape;
  LaunchArgs args;
  args.phase = phase;
  args.q = q.data();
  args.k = keys.data();
  const reference::Problem &problem = inputs->problem;
  const int64_t valueBytes = inputs->pool.valueOffset * problem.keyElementBytes();
  args.v = inputs->pool.together ? keys.data<uint8_t>() + valueBytes : values.data<uint8_t>();
  if (!problem.kScale.empty())
    args.kScale = kScale.data<float>(), args.vScale = vScale.data<float>();
  args.out = out.data();
  args.lse = lse.data<float>();
  args.ids = (phase == Phase::Attend ? givenIds : ids).data<int>();
  args.cuQ = cuQ.data<int>();
  args.shape.batch = shape.batch;
  args.shape.totalK = shape.batch * shape.keys;
  args.shape.maxK = shape.keys;
  args.shape.totalQ = phase == Phase::Append ? args.shape.totalK : shape.totalQ();
  args.shape.maxQ = phase == Phase::Append ? shape.keys : shape.queries;
  args.layout = inputs->pool.layout;
  args.layout.seqK = seqK.data<int>();
  args.layout.pageTable = table.data<int>();
  args.layout.pageTableStride = inputs->tableStride();
  if (inputs->hasPadding())
    args.layout.kBegin = kBegin.data<int>();
  for (size_t i = 0; i < inputs->summaries.size(); ++i)
    args.rows[i] = rows[i].data();
  if (inputs->ownSlots() > 0) {
    args.layout.rowsTable = rowsTable.data<int>();
    args.layout.rowsTableStride = inputs->ownSlots();
  }
  return args;
}

Result<int> SoakDevice::beBusy() {
  WINNOW_TRY(busy, BusyStream::open(driver, device));
  return busy->multiprocessors();
}

Status SoakDevice::stopBusy() { return busy ? busy->stop() : Status(); }

Status SoakDevice::launch(const Launch &one) {
  if (busy)
    WINNOW_CHECK(busy->keep());
  ++count;
  WINNOW_CHECK(one.graph
                   ? one.graph->replay(stream->get())
                   : program->launch(one.args, stream->get(), workspace.data(), workspace.size()));
  return stream->synchronize();
}

/// The rows of the keys before the queries, as a prompt leaves them.
Status SoakDevice::append(const SoakStep &step) {
  for (size_t i = 0; i < inputs->summaries.size(); ++i)
    WINNOW_CHECK(rows[i].fill(0xff));
  std::vector<int32_t> before(step.keys.size(), 0), cumulative(step.cuQ.size(), 0);
  for (const std::vector<int32_t> &chunk : step.chunks) {
    for (size_t s = 0; s < chunk.size(); ++s)
      cumulative[s + 1] = cumulative[s] + chunk[s] - before[s];
    WINNOW_CHECK(upload(seqK, chunk));
    WINNOW_CHECK(upload(cuQ, cumulative));
    WINNOW_CHECK(launch(captured[Phase::Append]));
    before = chunk;
  }
  return {};
}

Result<CaseAnswer> SoakDevice::run(const SoakStep &step, Phase phase, const std::string &what) {
  WINNOW_CHECK(upload(table, step.table));
  WINNOW_CHECK(upload(kBegin, step.kBegin));
  WINNOW_CHECK(upload(rowsTable, step.rowsTable));
  watchdog->begin(what);
  if (phase == Phase::All)
    WINNOW_CHECK(append(step));
  WINNOW_CHECK(upload(q, step.q));
  WINNOW_CHECK(upload(seqK, step.keys));
  WINNOW_CHECK(upload(cuQ, step.cuQ));
  WINNOW_CHECK(upload(givenIds, step.ids));
  for (DeviceBuffer *result : {&out, &lse, &ids}) // an earlier answer must not pass for this one's
    WINNOW_CHECK(result->fill(0xff));
  WINNOW_CHECK(launch(captured[phase]));
  watchdog->end();

  const reference::Problem &problem = inputs->problem;
  const size_t tokens = inputs->shape.totalQ(), heads = problem.heads;
  CaseAnswer answer;
  answer.out.resize(tokens * heads * problem.valueWidth());
  answer.lse.resize(tokens * heads);
  answer.ids.resize(tokens * inputs->selectHeads * problem.topk);
  WINNOW_CHECK(out.download(answer.out.data(), answer.out.size() * sizeof(uint16_t)));
  WINNOW_CHECK(lse.download(answer.lse.data(), answer.lse.size() * sizeof(float)));
  if (phase == Phase::Attend)
    answer.ids = step.ids;
  else
    WINNOW_CHECK(ids.download(answer.ids.data(), answer.ids.size() * sizeof(int32_t)));
  return answer;
}

} // namespace winnow
