// Uploads, downloads and event timing.
#include "tools/winnow/backends/CudaTensors.h"
#include "tools/winnow/backends/Backend.h"
#include <algorithm>

namespace winnow {
namespace {

Result<DeviceBuffer> uploadedBuffer(const std::shared_ptr<Driver> &driver, const void *host,
                                    size_t bytes) {
  DeviceBuffer buffer;
  WINNOW_TRY(buffer, DeviceBuffer::allocate(driver, std::max<size_t>(bytes, 256)));
  WINNOW_CHECK(buffer.upload(host, bytes));
  return buffer;
}

} // namespace

double median(std::vector<double> values) {
  if (values.empty())
    return 0;
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

Result<DeviceBuffer> poisonedBuffer(const std::shared_ptr<Driver> &driver, size_t bytes) {
  DeviceBuffer buffer;
  WINNOW_TRY(buffer, DeviceBuffer::allocate(driver, std::max<size_t>(bytes, 256)));
  WINNOW_CHECK(buffer.fill(0xff));
  return buffer;
}

Result<DeviceTensors> DeviceTensors::make(const std::shared_ptr<Driver> &driver,
                                          const reference::Problem &problem, int selectHeads,
                                          const int32_t *givenIds, const StoredTensors *stored) {
  auto tokens = static_cast<size_t>(problem.totalQ());
  size_t queryBytes = tokens * problem.heads * problem.headDim * 2;
  size_t keyTokens = static_cast<size_t>(problem.cuK.back()) + problem.spareKeys;
  size_t keyBytes = keyTokens * problem.kvHeads * problem.headDim * 2;
  size_t outBytes = tokens * problem.heads * problem.valueWidth() * 2;
  size_t valueBytes = keyTokens * problem.kvHeads * problem.valueWidth() * 2;
  size_t idBytes = tokens * selectHeads * problem.topk * sizeof(int32_t);
  DeviceTensors tensors;
  if (stored) {
    auto upload = [&](DeviceBuffer &buffer, const auto &values) -> Status {
      if (values.empty())
        return {};
      WINNOW_TRY(buffer, uploadedBuffer(driver, values.data(), values.size() * sizeof(values[0])));
      return {};
    };
    tensors.stored = stored;
    outBytes = stored->outElements * 2;
    WINNOW_CHECK(upload(tensors.q, stored->q));
    WINNOW_CHECK(upload(tensors.k, bytesOfKeys(problem, stored->keyValues)));
    WINNOW_CHECK(upload(tensors.kScale, problem.kScale));
    WINNOW_CHECK(upload(tensors.vScale, problem.vScale));
    WINNOW_CHECK(upload(tensors.seqK, stored->seqK));
    WINNOW_CHECK(upload(tensors.table, stored->table));
    WINNOW_CHECK(upload(tensors.kBegin, stored->kBegin));
    WINNOW_CHECK(upload(tensors.rowsTable, stored->rowsTable));
    for (int i = 0; i < kMostRows; ++i)
      WINNOW_CHECK(upload(tensors.rows[i], stored->rows[i]));
  } else {
    WINNOW_TRY(tensors.q, uploadedBuffer(driver, problem.q, queryBytes));
    WINNOW_TRY(tensors.k, uploadedBuffer(driver, problem.k, keyBytes));
    WINNOW_TRY(tensors.v, uploadedBuffer(driver, problem.v, valueBytes));
  }
  WINNOW_TRY(tensors.cuQ,
             uploadedBuffer(driver, problem.cuQ.data(), problem.cuQ.size() * sizeof(int32_t)));
  WINNOW_TRY(tensors.cuK,
             uploadedBuffer(driver, problem.cuK.data(), problem.cuK.size() * sizeof(int32_t)));
  WINNOW_TRY(tensors.out, poisonedBuffer(driver, outBytes));
  WINNOW_TRY(tensors.lse, poisonedBuffer(driver, tokens * problem.heads * sizeof(float)));
  if (givenIds) {
    WINNOW_TRY(tensors.ids, uploadedBuffer(driver, givenIds, idBytes));
  } else {
    WINNOW_TRY(tensors.ids, poisonedBuffer(driver, idBytes));
  }
  return tensors;
}

Status DeviceTensors::addGradients(const std::shared_ptr<Driver> &driver,
                                   const reference::Problem &problem, const uint16_t *given) {
  const size_t tokens = static_cast<size_t>(problem.totalQ()) * problem.heads * 2,
               keyTokens = static_cast<size_t>(problem.cuK.back()) * problem.kvHeads * 2;
  WINNOW_TRY(dout, uploadedBuffer(driver, given, tokens * problem.valueWidth()));
  WINNOW_TRY(dq, poisonedBuffer(driver, tokens * problem.headDim));
  WINNOW_TRY(dk, poisonedBuffer(driver, keyTokens * problem.headDim));
  WINNOW_TRY(dv, poisonedBuffer(driver, keyTokens * problem.valueWidth()));
  return {};
}

LaunchArgs DeviceTensors::backwardArgs(const reference::Problem &problem) const {
  LaunchArgs backward = args(problem);
  backward.phase = Phase::Backward;
  backward.dout = dout.data();
  backward.dq = dq.data();
  backward.dk = dk.data();
  backward.dv = dv.data();
  return backward;
}

Status DeviceTensors::downloadGradients(const reference::Problem &problem,
                                        CaseAnswer &answer) const {
  allocateGradients(problem, answer);
  WINNOW_CHECK(dq.download(answer.dq.data(), answer.dq.size() * 2));
  WINNOW_CHECK(dk.download(answer.dk.data(), answer.dk.size() * 2));
  return dv.download(answer.dv.data(), answer.dv.size() * 2);
}

LaunchArgs DeviceTensors::args(const reference::Problem &problem) const {
  LaunchArgs args;
  args.q = q.data();
  args.k = k.data();
  args.v = v.data();
  args.out = out.data();
  args.lse = lse.data<float>();
  args.ids = ids.data<int>();
  args.cuQ = cuQ.data<int>();
  args.cuK = cuK.data<int>();
  args.shape.batch = static_cast<int>(problem.cuQ.size()) - 1;
  args.shape.totalQ = problem.totalQ();
  args.shape.totalK = problem.cuK.back();
  for (size_t s = 0; s + 1 < problem.cuQ.size(); ++s) {
    args.shape.maxQ = std::max(args.shape.maxQ, problem.cuQ[s + 1] - problem.cuQ[s]);
    args.shape.maxK = std::max(args.shape.maxK, problem.cuK[s + 1] - problem.cuK[s]);
  }
  if (!stored)
    return args;
  const int bytes = problem.keyElementBytes();
  args.k = k.data<uint8_t>() + stored->k * bytes;
  args.v = k.data<uint8_t>() + stored->v * bytes;
  args.kScale = problem.kScale.empty() ? nullptr : kScale.data<float>();
  args.vScale = problem.vScale.empty() ? nullptr : vScale.data<float>();
  args.layout = stored->layout;
  args.layout.seqK = seqK.data<int>();
  args.layout.pageTable = stored->table.empty() ? nullptr : table.data<int>();
  args.layout.kBegin = stored->kBegin.empty() ? nullptr : kBegin.data<int>();
  args.layout.rowsTable = stored->rowsTable.empty() ? nullptr : rowsTable.data<int>();
  for (int i = 0; i < kMostRows; ++i)
    args.rows[i] = stored->rows[i].empty() ? nullptr : rows[i].data();
  return args;
}

Result<CaseAnswer> DeviceTensors::download(const reference::Problem &problem,
                                           int selectHeads) const {
  auto tokens = static_cast<size_t>(problem.totalQ());
  CaseAnswer answer;
  answer.out.resize(stored ? stored->outElements : tokens * problem.heads * problem.valueWidth());
  answer.lse.resize(tokens * problem.heads);
  answer.ids.resize(tokens * selectHeads * problem.topk);
  WINNOW_CHECK(out.download(answer.out.data(), answer.out.size() * sizeof(uint16_t)));
  WINNOW_CHECK(lse.download(answer.lse.data(), answer.lse.size() * sizeof(float)));
  WINNOW_CHECK(ids.download(answer.ids.data(), answer.ids.size() * sizeof(int32_t)));
  for (int i = 0; i < kMostRows && stored; ++i)
    if (!stored->rows[i].empty()) {
      answer.rows[i].resize(stored->rows[i].size());
      WINNOW_CHECK(rows[i].download(answer.rows[i].data(), answer.rows[i].size() * 2));
    }
  if (stored) {
    WINNOW_TRY(answer.out, packOutput(problem, *stored, answer.out, 0xffff));
  }
  return answer;
}

Status KernelTimer::begin(CUstream stream) {
  events.clear();
  names.clear();
  return mark(stream);
}

void KernelTimer::observe(void *user, const Kernel &kernel, int, CUstream stream) {
  auto *timer = static_cast<KernelTimer *>(user);
  timer->names.emplace_back(kernel.name, attends(kernel));
  if (Status status = timer->mark(stream); !status)
    timer->failed = status;
}

Result<KernelTimes> KernelTimer::finish() {
  WINNOW_CHECK(failed);
  WINNOW_CHECK(events.back().synchronize());
  KernelTimes times;
  for (size_t i = 0; i < names.size(); ++i) {
    float milliseconds = 0;
    WINNOW_TRY(milliseconds, events[i + 1].millisecondsSince(events[i]));
    times.kernels[names[i].first] += milliseconds;
    (names[i].second ? times.attend : times.select) += milliseconds;
  }
  return times;
}

Status KernelTimer::mark(CUstream stream) {
  WINNOW_TRY(Event event, Event::create(driver));
  events.push_back(std::move(event));
  return events.back().record(stream);
}

} // namespace winnow
