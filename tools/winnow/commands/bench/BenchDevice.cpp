// Uploads in pieces, timed launches, and the check of sampled rows: host memory holds only what is
// looked at.
#include "tools/winnow/commands/bench/BenchDevice.h"
#include "reference/Compare.h"
#include "runtime/program/ImageFormat.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/backends/Backend.h"
#include <algorithm>
#include <fmt/format.h>
#include <map>

namespace winnow {
namespace {

constexpr size_t kPieceBytes = size_t(64) << 20; ///< of a tensor, made and uploaded at a time
constexpr int kKernelRounds = 5; ///< launches with an event after each kernel, for the breakdown

} // namespace

double quantile(const std::vector<double> &sorted, double share) {
  double place = share * static_cast<double>(sorted.size() - 1);
  auto below = static_cast<size_t>(place);
  size_t above = std::min(below + 1, sorted.size() - 1);
  double part = place - static_cast<double>(below);
  return sorted[below] + part * (sorted[above] - sorted[below]);
}

Status MeasuredDevice::openDevice(const std::string &name) {
  WINNOW_TRY(driver, launchDevice(name, device, form));
  WINNOW_CHECK(driver->makeCurrent(device.index));
  clock.emplace(device.uuid);
  WINNOW_TRY(Stream made, Stream::create(driver));
  stream.emplace(std::move(made));
  return {};
}

std::string MeasuredDevice::driverText() const {
  const int version = driver->version();
  const std::string own = clock->driverVersion();
  return fmt::format("{}CUDA {}.{}", own.empty() ? "" : "driver " + own + ", ", version / 1000,
                     version % 1000 / 10);
}

Result<Variant> MeasuredDevice::load(std::string name, std::shared_ptr<const ProgramImage> image,
                                     bool ptx) const {
  Variant variant;
  variant.name = std::move(name);
  variant.image = image;
  LoadOptions options;
  options.device = device.index;
  options.allowPtx = ptx;
  WINNOW_TRY(variant.program, LoadedProgram::load(std::move(image), driver, options));
  return variant;
}

Result<Variant> MeasuredDevice::loadFile(std::string name, const std::string &path,
                                         bool ptx) const {
  WINNOW_TRY(ProgramImage image, loadImageFile(path));
  return load(std::move(name), std::make_shared<const ProgramImage>(std::move(image)), ptx);
}

Result<DeviceBuffer> uploadedPool(const std::shared_ptr<Driver> &driver, const DecodeInputs &inputs,
                                  const std::vector<int32_t> &table, bool values) {
  DeviceBuffer pool;
  const int bytes = inputs.problem.keyElementBytes();
  WINNOW_TRY(pool, DeviceBuffer::allocate(driver, inputs.elements(values) * bytes));
  int64_t longest = kPieceBytes / int64_t(sizeof(uint16_t));
  for (int part = 0; part < inputs.parts(); ++part)
    longest = std::max(longest, inputs.partElements(values, part));
  HostArray<uint16_t> piece(longest, true);
  for (int first = 0; first < inputs.parts();) {
    int last = first + 1;
    auto elements = [&](int end) {
      return inputs.partBegin(values, end) - inputs.partBegin(values, first);
    };
    while (last < inputs.parts() && elements(last + 1) <= static_cast<int64_t>(piece.size()))
      ++last;
    inputs.fill(table, values, first, last - first, piece.data());
    if (bytes == 1) { // in place: a byte never comes behind its word
      auto *narrow = reinterpret_cast<uint8_t *>(piece.data());
      for (int64_t i = 0; i < elements(last); ++i)
        narrow[i] = static_cast<uint8_t>(piece[i]);
    }
    auto target = reinterpret_cast<CUdeviceptr>(pool.data<uint8_t>() +
                                                bytes * inputs.partBegin(values, first));
    WINNOW_CHECK(
        driver->check(driver->api().cuMemcpyHtoD_v2(target, piece.data(), elements(last) * bytes),
                      "uploading keys and values"));
    first = last;
  }
  return pool;
}

Result<std::unique_ptr<BenchDevice>> BenchDevice::open(int index) {
  auto bench = std::make_unique<BenchDevice>();
  WINNOW_CHECK(bench->openDevice(std::to_string(index)));
  return bench;
}

Status BenchDevice::place(BenchInputs &workload, const DecodeInputs *paged, int selectHeads,
                          int checkedRows) {
  tensors = {}; // frees what the last workload had, before more is asked for
  inputs = &workload;
  pages = paged;
  expectedSelection.reset();
  expectedAttention.reset();
  const reference::Problem &problem = workload.problem;
  auto tokens = static_cast<size_t>(problem.totalQ());
  size_t rowBytes = static_cast<size_t>(problem.heads) * problem.headDim * sizeof(uint16_t);
  rows.clear();
  if (checkedRows > 0)
    rows = reference::sampleRows(problem, checkedRows);
  workload.provideQueries(rows);

  auto uploaded = [&](DeviceBuffer &buffer, const void *host, size_t bytes) -> Status {
    WINNOW_TRY(buffer, DeviceBuffer::allocate(driver, std::max<size_t>(bytes, 256)));
    return buffer.upload(host, bytes);
  };
  if (pages) {
    const std::vector<int32_t> table = pages->table(0);
    WINNOW_TRY(tensors.k, uploadedPool(driver, *pages, table, false));
    if (!pages->pool.together) {
      WINNOW_TRY(tensors.v, uploadedPool(driver, *pages, table, true));
    }
    WINNOW_CHECK(uploaded(tensors.table, table.data(), table.size() * sizeof(int32_t)));
    WINNOW_CHECK(uploaded(tensors.seqK, pages->lengths.data(), sizeof(int32_t)));
    WINNOW_CHECK(
        uploaded(tensors.kBegin, pages->kBegin.data(), pages->kBegin.size() * sizeof(int32_t)));
    const std::vector<float> &kScale = problem.kScale, &vScale = problem.vScale;
    WINNOW_CHECK(uploaded(tensors.kScale, kScale.data(), kScale.size() * sizeof(float)));
    WINNOW_CHECK(uploaded(tensors.vScale, vScale.data(), vScale.size() * sizeof(float)));
  } else {
    WINNOW_CHECK(uploaded(tensors.k, workload.k.data(), workload.k.bytes()));
    WINNOW_CHECK(uploaded(tensors.v, workload.v.data(), workload.v.bytes()));
  }
  WINNOW_CHECK(uploaded(tensors.cuQ, problem.cuQ.data(), problem.cuQ.size() * sizeof(int32_t)));
  WINNOW_CHECK(uploaded(tensors.cuK, problem.cuK.data(), problem.cuK.size() * sizeof(int32_t)));
  WINNOW_TRY(tensors.q, DeviceBuffer::allocate(driver, tokens * rowBytes));
  size_t pieceRows = std::max<size_t>(1, std::min(tokens, kPieceBytes / rowBytes));
  HostArray<uint16_t> piece(pieceRows * rowBytes / sizeof(uint16_t), true);
  for (size_t begin = 0; begin < tokens; begin += pieceRows) {
    size_t count = std::min(pieceRows, tokens - begin);
    workload.queryRows(static_cast<int>(begin), static_cast<int>(count), piece.data());
    auto target = reinterpret_cast<CUdeviceptr>(tensors.q.data<char>() + begin * rowBytes);
    WINNOW_CHECK(
        driver->check(driver->api().cuMemcpyHtoD_v2(target, piece.data(), count * rowBytes),
                      "uploading queries"));
  }
  size_t idCount = tokens * selectHeads * problem.topk;
  size_t outElements = tokens * problem.heads * problem.valueWidth();
  WINNOW_TRY(tensors.out, poisonedBuffer(driver, outElements * sizeof(uint16_t)));
  WINNOW_TRY(tensors.lse, poisonedBuffer(driver, tokens * problem.heads * sizeof(float)));
  WINNOW_TRY(tensors.ids, poisonedBuffer(driver, idCount * sizeof(int32_t)));
  out = HostArray<uint16_t>(outElements, false);
  lse = HostArray<float>(tokens * problem.heads, false);
  ids = HostArray<int32_t>(idCount, false);
  return {};
}

LaunchArgs BenchDevice::launchArgs(Phase phase) const {
  LaunchArgs args = tensors.args(inputs->problem);
  args.phase = phase;
  if (!pages)
    return args;
  const PagePool &pool = pages->pool;
  args.layout = pool.layout;
  args.layout.seqK = tensors.seqK.data<int>();
  args.layout.pageTable = tensors.table.data<int>();
  args.layout.pageTableStride = pages->tableStride;
  args.layout.kBegin = pages->kBegin.empty() ? nullptr : tensors.kBegin.data<int>();
  const int64_t valueBytes = pool.valueOffset * pages->problem.keyElementBytes();
  args.v = pool.together ? tensors.k.data<uint8_t>() + valueBytes : tensors.v.data();
  return args;
}

Status BenchDevice::placeIds(const HostArray<int32_t> &given) {
  expectedAttention.reset();
  return tensors.ids.upload(given.data(), given.bytes());
}

Status BenchDevice::reserve(const Variant &variant) {
  size_t bytes = 0;
  WINNOW_TRY(bytes, variant.program->workspaceSize(launchArgs(Phase::All).shape));
  if (tensors.workspace.size() < bytes) {
    WINNOW_TRY(tensors.workspace, poisonedBuffer(driver, bytes));
  }
  return {};
}

Result<std::string> BenchDevice::check(const reference::Method &method, const Variant &variant,
                                       Phase phase) {
  const LaunchArgs args = launchArgs(phase);
  // What the last variant wrote must not pass for this one's answer.
  if (phase != Phase::Select) {
    WINNOW_CHECK(tensors.out.fill(0xff));
    WINNOW_CHECK(tensors.lse.fill(0xff));
  }
  if (phase != Phase::Attend)
    WINNOW_CHECK(tensors.ids.fill(0xff));
  WINNOW_CHECK(launch(variant, args, nullptr));
  WINNOW_CHECK(stream->synchronize());
  return rows.empty() ? std::string() : verify(method, variant, phase);
}

Result<LaunchGraph> BenchDevice::capture(const Variant &variant, Phase phase) {
  const LaunchArgs args = launchArgs(phase);
  return LaunchGraph::capture(driver, stream->get(),
                              [&] { return launch(variant, args, nullptr); });
}

Result<std::vector<Timing>> BenchDevice::measure(const std::vector<Side> &sides, Phase phase,
                                                 int rounds, const std::string &label) {
  const LaunchArgs args = launchArgs(phase);
  for (const Side &side : sides)
    WINNOW_CHECK(reserve(side.variant));
  std::vector<Timing> timings(sides.size());
  std::vector<std::vector<double>> times(sides.size()), clocks(sides.size());
  for (size_t i = 0; i < sides.size(); ++i) {
    WINNOW_TRY(timings[i].fault, check(sides[i].method, sides[i].variant, phase));
  }
  Progress progress(label);
  for (int round = 0; round < rounds; ++round)
    for (size_t n = 0; n < sides.size(); ++n) {
      size_t i = round % 2 ? sides.size() - 1 - n : n; // there and back
      double time = 0;
      WINNOW_TRY(time, timedLaunch(sides[i].variant, args, timings[i]));
      times[i].push_back(time);
      clocks[i].push_back(timings[i].clock);
      progress.show(static_cast<double>(round + 1) / rounds);
    }
  for (size_t i = 0; i < sides.size(); ++i) {
    std::sort(times[i].begin(), times[i].end());
    timings[i].medianMs = quantile(times[i], 0.5);
    timings[i].lowerMs = quantile(times[i], 0.25);
    timings[i].upperMs = quantile(times[i], 0.75);
    timings[i].fastestMs = times[i].front();
    timings[i].clock = static_cast<int>(median(clocks[i]));
    if (phase != Phase::Attend)
      WINNOW_CHECK(
          kernelTimes(sides[i].variant, args, std::min(rounds, kKernelRounds), timings[i]));
  }
  return timings;
}

Status BenchDevice::launch(const Variant &variant, const LaunchArgs &args, KernelTimer *timer) {
  return variant.program->launch(args, stream->get(), tensors.workspace.data(),
                                 tensors.workspace.size(), timer ? KernelTimer::observe : nullptr,
                                 timer);
}

/// One launch between two events; the clock is read while it runs.
Result<double> BenchDevice::timedLaunch(const Variant &variant, const LaunchArgs &args,
                                        Timing &timing) {
  Result<Event> begin = Event::create(driver), end = Event::create(driver);
  if (!begin || !end)
    return tl::unexpected(begin ? end.error() : begin.error());
  WINNOW_CHECK(begin->record(stream->get()));
  WINNOW_CHECK(launch(variant, args, nullptr));
  WINNOW_CHECK(end->record(stream->get()));
  timing.clock = clock->smMegahertz();
  WINNOW_CHECK(end->synchronize());
  float milliseconds = 0;
  WINNOW_TRY(milliseconds, end->millisecondsSince(*begin));
  return milliseconds;
}

Status BenchDevice::kernelTimes(const Variant &variant, const LaunchArgs &args, int rounds,
                                Timing &timing) {
  std::map<std::string, std::vector<double>> times;
  for (int round = 0; round < rounds; ++round) {
    KernelTimer timer(driver);
    WINNOW_CHECK(timer.begin(stream->get()));
    WINNOW_CHECK(launch(variant, args, &timer));
    KernelTimes one;
    WINNOW_TRY(one, timer.finish());
    for (const auto &[name, time] : one.kernels)
      times[name].push_back(time);
  }
  for (const auto &[name, list] : times)
    timing.kernels.emplace_back(name, median(list));
  return {};
}

Status BenchDevice::copyOut(void *host, const DeviceBuffer &from, size_t offset,
                            size_t bytes) const {
  auto source = reinterpret_cast<CUdeviceptr>(from.data<char>() + offset);
  return driver->check(driver->api().cuMemcpyDtoH_v2(host, source, bytes), "reading results");
}

/// The sampled rows of ids, output and LSE, each at its place in a host array of the whole shape.
Status BenchDevice::downloadRows(const reference::Method &method) {
  const reference::Problem &problem = inputs->problem;
  auto tokens = static_cast<size_t>(problem.totalQ());
  size_t width = static_cast<size_t>(problem.heads) * problem.valueWidth();
  for (int row : rows) {
    WINNOW_CHECK(
        copyOut(&out[row * width], tensors.out, row * width * sizeof(uint16_t), width * 2));
    for (int head = 0; head < problem.heads; ++head) {
      size_t at = head * tokens + row;
      WINNOW_CHECK(copyOut(&lse[at], tensors.lse, at * sizeof(float), sizeof(float)));
    }
    for (int head = 0; head < problem.selectHeads(method); ++head) {
      size_t at = (head * tokens + row) * problem.topk;
      WINNOW_CHECK(
          copyOut(&ids[at], tensors.ids, at * sizeof(int32_t), problem.topk * sizeof(int32_t)));
    }
  }
  return {};
}

Result<std::string> BenchDevice::verify(const reference::Method &method, const Variant &variant,
                                        Phase phase) {
  if (const std::string spec = variant.image->spec.text(); spec != expectedSpec) {
    expectedSpec = spec;
    expectedSelection.reset();
    expectedAttention.reset();
  }
  const reference::Problem &problem = inputs->problem;
  reference::Options options;
  options.rows = rows;
  WINNOW_CHECK(downloadRows(method));
  if (phase != Phase::Attend && method.selects) {
    if (!expectedSelection)
      expectedSelection = reference::select(method, problem, options);
    auto report = reference::compareSelection(method, problem, *expectedSelection, ids.data());
    if (report.wrong > 0)
      return report.first;
  }
  if (phase == Phase::Select)
    return std::string();
  if (!expectedAttention || phase != Phase::Attend)
    expectedAttention = reference::attend(method, problem, ids.data(), options);
  auto report = reference::compareOutput(problem, *expectedAttention, out.data(), lse.data());
  if (phase != Phase::Attend)
    expectedAttention.reset(); // of this variant's own picks
  return report.withinBars() ? std::string() : report.text();
}

} // namespace winnow
