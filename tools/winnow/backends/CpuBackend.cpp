// The CPU target as a backend.
#include "tools/winnow/Session.h"
#include "tools/winnow/backends/Backend.h"
#include <fmt/format.h>
#include <limits>
#include <memory>
#include <mutex>
#include <thread>
#if WINNOW_CPU
#include "compiler/cpu/CpuProgram.h"
#endif

namespace winnow {

#if WINNOW_CPU
namespace {

class CpuBackend : public Backend {
public:
  explicit CpuBackend(int threads)
      : threads(threads ? threads
                        : std::max(1, static_cast<int>(std::thread::hardware_concurrency()))) {}

  bool isGpu() const override { return false; }
  std::string description() const override {
    return fmt::format("CPU, {} thread{}", threads, threads == 1 ? "" : "s");
  }

  Result<BackendAnswer> run(const BackendCall &call) override {
    if (call.image)
      return fail(ErrorKind::Usage,
                  "a program image holds GPU code; give the method and its spec to run on the CPU");
    double began = now();
    std::shared_ptr<const CpuProgram> program;
    WINNOW_TRY(program, obtain(call.request));
    BackendAnswer answer;
    answer.prepareMs = (now() - began) * 1000;
    answer.selectHeads = program->selectHeads();

    // Results start out as NaN and absurd ids, so that an element that was never written is seen.
    const reference::Problem &problem = *call.problem;
    auto tokens = static_cast<size_t>(problem.totalQ());
    CaseAnswer &tensors = answer.tensors;
    tensors.out.assign(call.stored ? call.stored->outElements
                                   : tokens * problem.heads * problem.valueWidth(),
                       0xffff);
    tensors.lse.assign(tokens * problem.heads, std::numeric_limits<float>::quiet_NaN());
    tensors.ids.assign(tokens * answer.selectHeads * problem.topk, 0x7f7f7f7f);
    if (call.ids)
      std::copy(call.ids, call.ids + tensors.ids.size(), tensors.ids.begin());

    CpuTensors args{problem.q, problem.k,          problem.v,          nullptr,
                    nullptr,   tensors.ids.data(), problem.cuQ.data(), problem.cuK.data()};
    args.batch = static_cast<int>(problem.cuQ.size()) - 1;
    std::vector<uint8_t> keys;
    if (call.stored) {
      keys = bytesOfKeys(problem, call.stored->keyValues);
      setLayout(problem, *call.stored, keys.data(), args);
    }
    int maxQ = 0;
    for (int s = 0; s < args.batch; ++s) {
      args.maxK = std::max(args.maxK, problem.cuK[s + 1] - problem.cuK[s]);
      maxQ = std::max(maxQ, problem.cuQ[s + 1] - problem.cuQ[s]);
    }
    WINNOW_TRY(tensors.denseLength, program->denseLength(args.batch, maxQ));
    for (int i = 0; i < kMostRows && call.stored; ++i)
      if (!call.stored->rows[i].empty()) {
        tensors.rows[i] = call.stored->rows[i];
        args.rows[i] = tensors.rows[i].data();
      }
    if (call.appendOnly) {
      args.appendOnly = true;
      WINNOW_CHECK(program->run(args, threads, call.progress));
      return answer;
    }
    // Two calls, so that each part has its time: selection, then attention over its ids.
    bool selects = answer.selectHeads > 0 && !call.ids;
    if (selects) {
      began = now();
      WINNOW_CHECK(program->run(args, threads, half(call.progress, 0)));
      answer.selectMs = (now() - began) * 1000;
    }
    args.out = tensors.out.data();
    args.lse = tensors.lse.data();
    args.idsGiven = answer.selectHeads > 0;
    began = now();
    if (Status status =
            program->run(args, threads, selects ? half(call.progress, 0.5) : call.progress);
        !status)
      return tl::unexpected(status.error());
    answer.attendMs = (now() - began) * 1000;
    if (call.dout) {
      began = now();
      WINNOW_CHECK(backward(*program, problem, call.dout, args, tensors));
      answer.backwardMs = (now() - began) * 1000;
    }
    if (call.stored) {
      auto packed = packOutput(problem, *call.stored, tensors.out, 0xffff);
      if (!packed)
        return tl::unexpected(packed.error());
      tensors.out = std::move(*packed);
    }
    return answer;
  }

private:
  /// The last program stays: a run in steps calls it again and again. Callers may come from any
  /// thread.
  Result<std::shared_ptr<const CpuProgram>> obtain(const CompileRequest &request) {
    const std::string name = request.method + "\n" + request.spec.text();
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (name == lastName)
        return last;
    }
    WINNOW_TRY(MethodInfo method, loadMethod(request.method));
    WINNOW_TRY(auto made, CpuProgram::compile(method.text, request.spec, method.file));
    const std::lock_guard<std::mutex> lock(mutex);
    lastName = name;
    last = std::move(made);
    return last;
  }

  /// Gradients of the attention that `tensors` are the results of.
  Status backward(const CpuProgram &program, const reference::Problem &problem,
                  const uint16_t *dout, const CpuTensors &args, CaseAnswer &tensors) const {
    allocateGradients(problem, tensors);
    return program.backward(args, {dout, tensors.dq.data(), tensors.dk.data(), tensors.dv.data()},
                            threads);
  }

  static void setLayout(const reference::Problem &problem, const StoredTensors &stored,
                        const uint8_t *keys, CpuTensors &args) {
    args.q = stored.q.data();
    const int bytes = problem.keyElementBytes();
    args.k = keys + stored.k * bytes;
    args.v = keys + stored.v * bytes;
    args.kScale = problem.kScale.empty() ? nullptr : problem.kScale.data();
    args.vScale = problem.vScale.empty() ? nullptr : problem.vScale.data();
    args.layout = stored.layout;
    args.layout.seqK = stored.seqK.data();
    args.layout.pageTable = stored.table.empty() ? nullptr : stored.table.data();
    args.layout.kBegin = stored.kBegin.empty() ? nullptr : stored.kBegin.data();
    args.layout.rowsTable = stored.rowsTable.empty() ? nullptr : stored.rowsTable.data();
  }

  static std::function<void(double)> half(const std::function<void(double)> &progress,
                                          double begin) {
    if (!progress)
      return {};
    return [progress, begin](double done) { progress(begin + done / 2); };
  }

  int threads;
  std::mutex mutex; ///< guards what follows
  std::string lastName;
  std::shared_ptr<const CpuProgram> last;
};

} // namespace

Result<std::unique_ptr<Backend>> openCpuBackend(const BackendOptions &options) {
  if (options.ptx || !options.arch.empty())
    return fail(ErrorKind::Usage, "--ptx and a GPU architecture do not go with --device cpu");
  return std::make_unique<CpuBackend>(options.threads);
}
#else
Result<std::unique_ptr<Backend>> openCpuBackend(const BackendOptions &) {
  return fail(ErrorKind::Unsupported,
              "this build has no CPU target (WINNOW_CPU=OFF); use --device cuda");
}
#endif

} // namespace winnow
