// Candidates compiled into image files; candidates loaded, compared with the reference and timed. A
// failure of the device ends the process's usefulness, and the tuner starts another one.
#include "tools/winnow/commands/tune/TuneWorker.h"
#include "autotune/search/Worker.h"
#include "reference/conformance/RandomCases.h"
#include "runtime/JsonText.h"
#include "tools/winnow/backends/Backend.h"
#include "tools/winnow/backends/HostMemory.h"
#include "tools/winnow/commands/bench/BenchDevice.h"
#include "tools/winnow/commands/tune/BackwardMeasurer.h"
#include "tools/winnow/commands/tune/DecodeMeasurer.h"
#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <unistd.h>

namespace winnow {
namespace {

using Json = nlohmann::json;

constexpr int kCases = 3;                  ///< adversarial inputs per candidate
constexpr int kCheckedRows = 12;           ///< of a workload
constexpr Layout kLayout = Layout::Halves; ///< of paged programs
constexpr int kPageSize = 64;
constexpr double kLeastMilliseconds = 2; ///< of launches behind one time: shorter ones are repeated

class CompilingProcess {
public:
  Result<Json> handle(const Json &request) {
    JsonFields fields(request);
    CompileRequest compile;
    compile.method = fields.text("method");
    const std::string spec = fields.text("spec"), config = fields.text("config", "default");
    compile.phase = fields.text("phase");
    if (compile.phase == kDecodePhase)
      compile.phase.clear(); // a whole launch
    compile.arch = fields.text("arch");
    compile.form = fields.flag("emulated") ? CodeForm::Emulated
                   : fields.flag("ptx")    ? CodeForm::Ptx
                                           : CodeForm::Cubin;
    compile.nvrtcPath = fields.text("nvrtc");
    CacheOptions options;
    options.directory = fields.text("directory");
    const int gpu = fields.whole("gpu");
    WINNOW_CHECK(fields.status());
    WINNOW_TRY(compile.spec, Spec::parse(spec));
    if (config != "default") {
      WINNOW_TRY(compile.config, Config::parse(config));
    }
    options.limitBytes = UINT64_MAX; // the tuner removes the folder
    Cache cache(options);
    ObtainedProgram program;
    WINNOW_TRY(program, obtainProgram(compile, cache));
    if (compile.form == CodeForm::Ptx)
      warmDriverCache(program.image, gpu);
    return Json{{"path", fmt::format("{}/{}.winnow", options.directory, program.image->key)}};
  }

private:
  /// The driver compiles PTX on one core of a process and keeps the result in its own cache: done
  /// here, in many processes, the one that measures finds it there. Where it fails, that one will
  /// say why.
  void warmDriverCache(const std::shared_ptr<const ProgramImage> &image, int gpu) {
    if (!bench)
      if (auto opened = BenchDevice::open(gpu))
        bench = std::move(*opened);
    if (bench)
      (void)bench->load("candidate", image, /*ptx=*/true);
  }

  std::unique_ptr<BenchDevice> bench; ///< kept: making a context takes longer than loading
};

/// A small input, on the host and on the GPU, and what the reference says of it; the same for every
/// candidate.
struct TrialCase {
  ConformanceCase test;
  CaseInputs inputs;
  std::optional<StoredTensors> stored;           ///< of a paged program
  DeviceTensors tensors;                         ///< the results are poisoned before each launch
  std::optional<reference::Selection> selection; ///< of phase select
  std::optional<reference::Attention> attention; ///< of phase attend
};

class MeasuringProcess {
public:
  Result<Json> handle(const Json &request) {
    JsonFields fields(request);
    const std::string what = fields.text("do"), path = fields.text("path");
    const int tokens = fields.whole("tokens"), overlap = fields.whole("overlap");
    const int id = fields.whole("candidate", -1);
    WINNOW_CHECK(fields.status());
    if (what == "open")
      return open(request);
    if (arch.empty())
      return fail(ErrorKind::Usage, "no GPU was opened");
    if (what == "program")
      return program(request);
    if (own)
      return own->handle(request);
    if (what == "workload")
      return workload(tokens, overlap);
    if (what == "load")
      return load(id, path);
    auto it = candidates.find(id);
    if (it == candidates.end())
      return fail(ErrorKind::Usage, fmt::format("candidate {} is not loaded", id));
    if (what == "cases")
      return runCases(it->second.variant);
    if (!inputs)
      return fail(ErrorKind::Usage, "no workload was placed");
    if (what == "check")
      return check(it->second);
    if (what == "time")
      return time(it->second);
    return fail(ErrorKind::Usage, fmt::format("request '{}' is not known", what));
  }

private:
  struct Loaded {
    Variant variant;
    std::optional<LaunchGraph> graph; ///< of the present workload
    double milliseconds = 0;          ///< of its last launch
  };

  Result<Json> open(const Json &request) {
    JsonFields fields(request);
    const int gpu = fields.whole("gpu");
    const std::string wanted = fields.text("arch"), emulated = fields.text("device");
    ptx = fields.flag("ptx");
    WINNOW_CHECK(fields.status());
    deviceText = emulated.empty() ? std::to_string(gpu) : emulated;
    if (!emulated.empty()) {
      DeviceInfo info;
      CodeForm form{};
      WINNOW_TRY([[maybe_unused]] auto driver, launchDevice(deviceText, info, form));
      WINNOW_TRY(const Target *target, targetForDevice(info.major, info.minor));
      arch = target->arch;
      return Json{{"device", info.name}, {"arch", arch}, {"driver", ""}};
    }
    WINNOW_TRY(bench, BenchDevice::open(gpu));
    const Target *target = nullptr;
    if (wanted.empty()) {
      WINNOW_TRY(target, targetForDevice(bench->info().major, bench->info().minor));
    } else {
      WINNOW_TRY(target, findTarget(wanted));
    }
    peak = target->tensorTflops;
    // Of the device, whose rate is the floor whatever the code is for.
    if (Result<const Target *> card = targetForDevice(bench->info().major, bench->info().minor))
      peak = (*card)->tensorTflops;
    WINNOW_TRY(flush, DeviceBuffer::allocate(bench->cuda(),
                                             size_t(2) * std::max(bench->info().l2Bytes, 1 << 20)));
    arch = target->arch;
    return Json{
        {"device", bench->info().name}, {"arch", arch}, {"driver", bench->gauge().driverVersion()}};
  }

  Result<Json> program(const Json &request) {
    candidates.clear();
    cases.clear();
    const std::string known = methodName + " " + spec.text();
    JsonFields fields(request);
    methodName = fields.text("method");
    const std::string specText = fields.text("spec"), phaseName = fields.text("phase");
    WINNOW_CHECK(fields.status());
    WINNOW_TRY(spec, Spec::parse(specText));
    if (phaseName == kDecodePhase)
      return programOf<DecodeMeasurer>(phaseName);
    if (phaseName == kBackwardPhase)
      return programOf<BackwardMeasurer>(phaseName);
    own.reset();
    if (!bench)
      return fail(ErrorKind::Usage, "under the emulator decode and backward alone can be tuned");
    // The other phase of the same program works on the same tensors.
    if (methodName + " " + spec.text() != known)
      inputs.reset();
    WINNOW_TRY(method, readAxes(methodName, spec));
    phase = phaseName == "select" ? Phase::Select : method.selects ? Phase::Attend : Phase::All;
    return Json::object();
  }

  /// Of a phase that has launches of its own.
  template <class Measurer> Result<Json> programOf(const std::string &name) {
    inputs.reset(); // room for another kind of tensors
    if (!own || ownPhase != name) {
      own.reset();
      ownPhase = name;
      WINNOW_TRY(own, Measurer::open(deviceText, ptx));
    }
    WINNOW_CHECK(own->program(methodName, spec));
    return Json::object();
  }

  Result<Json> load(int id, const std::string &path) {
    Loaded loaded;
    WINNOW_TRY(loaded.variant, bench->loadFile(fmt::format("{}", id), path, ptx));
    if (inputs) {
      dropGraphs(); // the workspace may move
      WINNOW_CHECK(bench->reserve(loaded.variant));
    }
    candidates.insert_or_assign(id, std::move(loaded));
    return Json::object();
  }

  /// Ragged batches, ties, huge logits, poisoned memory: what random checks are made of (fault
  /// F26).
  void makeCases() {
    const char *kinds[kCases] = {"poison", "huge", "ties"};
    for (int i = 0; i < kCases; ++i) {
      TrialCase one;
      one.test = drawCase({methodName, packed(spec), Config()}, method.selects, 2509, 8 * i);
      one.test.spec = spec;
      one.test.scaled = spec.hasFp8Keys();
      one.test.data = kinds[i];
      one.test.givenIds = phase == Phase::Attend;
      one.inputs = makeInputs(one.test, reference::problemOf(spec).selectHeads(method), 0);
      reference::Options options;
      options.rows = reference::sampleRows(one.inputs.problem, 16);
      if (options.rows.empty())
        continue;
      if (phase == Phase::Select)
        one.selection = reference::select(method, one.inputs.problem, options);
      else
        one.attention =
            reference::attend(method, one.inputs.problem, one.inputs.ids.data(), options);
      cases.push_back(std::move(one));
      CaseInputs &kept = cases.back().inputs;
      kept.problem.q = kept.q.data(), kept.problem.k = kept.k.data(),
      kept.problem.v = kept.v.data();
      if (spec.paged)
        cases.back().stored = storeTensors(kept.problem, kLayout, kPageSize, /*seed=*/i);
    }
  }

  /// A spec of whole prompts, as those of packed tensors are drawn.
  static Spec packed(Spec of) {
    of.paged = false;
    of.kvDtype = KvDtype::Same;
    return of;
  }

  Result<Json> runCases(const Variant &variant) {
    if (cases.empty())
      makeCases();
    for (TrialCase &one : cases) {
      std::string fault;
      WINNOW_TRY(fault, runOne(one, variant));
      if (!fault.empty()) {
        for (TrialCase &other : cases) // what is wrong may have written anywhere
          other.tensors = {};
        return Json{{"fault", fmt::format("{} inputs: {}", one.test.data, fault)}};
      }
    }
    return Json{{"fault", ""}};
  }

  Result<std::string> runOne(TrialCase &one, const Variant &variant) {
    const reference::Problem &problem = one.inputs.problem;
    DeviceTensors &tensors = one.tensors;
    if (tensors.q.size() == 0) {
      WINNOW_TRY(tensors, DeviceTensors::make(bench->cuda(), problem, problem.selectHeads(method),
                                              one.test.givenIds ? one.inputs.ids.data() : nullptr,
                                              one.stored ? &*one.stored : nullptr));
    }
    LaunchArgs args = tensors.args(problem);
    args.phase = phase;
    size_t bytes = 0;
    WINNOW_TRY(bytes, variant.program->workspaceSize(args.shape));
    if (tensors.workspace.size() < bytes) {
      WINNOW_TRY(tensors.workspace, DeviceBuffer::allocate(bench->cuda(), bytes));
    }
    for (DeviceBuffer *buffer : {&tensors.out, &tensors.lse, &tensors.workspace})
      WINNOW_CHECK(buffer->fill(0xff));
    if (!one.test.givenIds)
      WINNOW_CHECK(tensors.ids.fill(0xff));
    WINNOW_CHECK(
        bench->cuda()->check(bench->cuda()->api().cuCtxSynchronize(), "waiting for uploads"));
    WINNOW_CHECK(
        variant.program->launch(args, bench->queue().get(), tensors.workspace.data(), bytes));
    WINNOW_CHECK(bench->queue().synchronize());
    CaseAnswer answer;
    WINNOW_TRY(answer, tensors.download(problem, problem.selectHeads(method)));
    if (one.selection) {
      auto report = reference::compareSelection(method, problem, *one.selection, answer.ids.data(),
                                                1.0 / 256, one.test.data == "ties");
      return report.wrong ? report.first : std::string();
    }
    auto report =
        reference::compareOutput(problem, *one.attention, answer.out.data(), answer.lse.data());
    return report.withinBars() ? std::string() : report.text();
  }

  Result<Json> workload(int tokens, int overlap) {
    if (tokens <= 0)
      return fail(ErrorKind::Usage, "a workload needs tokens");
    dropGraphs();
    if (!inputs || inputs->problem.totalQ() != tokens) {
      inputs.reset(); // before more memory is asked for
      WINNOW_CHECK(requireTensors(spec, tokens));
      inputs = std::make_unique<BenchInputs>(spec, tokens, 1);
      pages.reset();
      if (spec.paged)
        pages.emplace(spec, DecodeShape{1, tokens}, kLayout, kPageSize, *inputs);
      WINNOW_CHECK(bench->place(*inputs, pages ? &*pages : nullptr,
                                inputs->problem.selectHeads(method), kCheckedRows));
    }
    const reference::Problem &problem = inputs->problem;
    if (phase == Phase::Attend)
      WINNOW_CHECK(bench->placeIds(overlappingIds(method, problem, std::max(1, overlap), 7)));
    for (auto &[id, loaded] : candidates)
      WINNOW_CHECK(bench->reserve(loaded.variant));
    double operations = phase == Phase::Select ? scoreOperations(method, problem)
                                               : attendOperations(method, problem);
    return Json{{"floor_ms", operations / peak * 1e-9}};
  }

  void dropGraphs() {
    for (auto &[id, loaded] : candidates) {
      loaded.graph.reset();
      loaded.milliseconds = 0; // nine launches of the next workload may take a second
    }
  }

  Result<Json> check(const Loaded &loaded) {
    std::string fault;
    WINNOW_TRY(fault, bench->check(method, loaded.variant, phase));
    return Json{{"fault", fault}};
  }

  /// The median of enough launches; between two of them the L2 cache is filled with something else.
  Result<Json> time(Loaded &loaded) {
    if (!loaded.graph) {
      WINNOW_TRY(LaunchGraph graph, bench->capture(loaded.variant, phase));
      loaded.graph.emplace(std::move(graph));
    }
    int launches = 1;
    if (loaded.milliseconds > 0)
      launches = std::clamp(static_cast<int>(kLeastMilliseconds / loaded.milliseconds), 1, 9);
    std::vector<double> times;
    int clock = 0, watts = 0;
    for (int i = 0; i < launches; ++i) {
      WINNOW_CHECK(flush.fill(static_cast<unsigned char>(i), bench->queue().get()));
      Result<Event> begin = Event::create(bench->cuda()), end = Event::create(bench->cuda());
      if (!begin || !end)
        return tl::unexpected(begin ? end.error() : begin.error());
      WINNOW_CHECK(begin->record(bench->queue().get()));
      WINNOW_CHECK(loaded.graph->replay(bench->queue().get()));
      WINNOW_CHECK(end->record(bench->queue().get()));
      if (i == 0)
        clock = bench->gauge().smMegahertz(), watts = bench->gauge().watts();
      WINNOW_CHECK(end->synchronize());
      float milliseconds = 0;
      WINNOW_TRY(milliseconds, end->millisecondsSince(*begin));
      times.push_back(milliseconds);
    }
    loaded.milliseconds = median(times);
    return Json{{"ms", loaded.milliseconds}, {"clock_mhz", clock}, {"watts", watts}};
  }

  std::unique_ptr<BenchDevice> bench; ///< none under the emulator
  std::unique_ptr<PhaseMeasurer> own; ///< of the phase, where it has launches of its own
  std::string ownPhase;
  std::string deviceText, arch; ///< of what was opened
  bool ptx = false;
  double peak = 0;
  DeviceBuffer flush;
  std::string methodName;
  Spec spec;
  reference::Method method;
  Phase phase = Phase::All;
  std::map<int, Loaded> candidates;
  std::vector<TrialCase> cases;
  std::unique_ptr<BenchInputs> inputs;
  std::optional<DecodeInputs> pages; ///< of a paged program: where its keys lie
};

} // namespace

int runTuneWorker(const std::string &kind) {
  if (kind == "compile") {
    // Many of these work while one process measures, which must find a core at once (fault F27).
    (void)!::nice(10);
    CompilingProcess process;
    return serveRequests([&](const Json &request) { return process.handle(request); });
  }
  MeasuringProcess process;
  return serveRequests([&](const Json &request) { return process.handle(request); });
}

} // namespace winnow
