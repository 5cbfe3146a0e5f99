// Both ways of attending are one program with other crossing points, so that what is compared is
// what `auto` chooses between: same kernels, other lengths of the launch.
#include "tools/winnow/commands/bench/CrossingCommand.h"
#include "autotune/search/TuningFile.h"
#include "runtime/program/CrossingPoints.h"
#include "tools/winnow/ProgramFlags.h"
#include "tools/winnow/commands/bench/DecodeBench.h"
#include "tools/winnow/commands/bench/DecodeReport.h"
#include "tools/winnow/commands/prepare/Programs.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Flags.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace winnow {
namespace {

constexpr double kNearEnough = 1.03; ///< of two lengths between which the crossing lies
constexpr int kPrefillQueries = 4096, kMostPrefillKeys = 65536;
constexpr const char *kNeverDense = "auto_0", *kAlwaysDense = "auto_1073741824";

class CrossingCommand {
public:
  explicit CrossingCommand(CLI::App &command) {
    flags.addTo(command, /*methodRequired=*/false);
    command.remove_option(command.get_option("--paged")); // it always is
    flags.addTargetFlags(command, "");
    command
        .add_option("--device", device,
                    "GPU to use, counted from 0; emulated or emulated:ARCH: without one, to try "
                    "the command")
        ->capture_default_str();
    command.add_option("--batch", batch, "Sequences at decode, rising, separated by commas")
        ->capture_default_str()
        ->check(listOf(between(1, kMostSequences)));
    command.add_option("--most", most, "Keys of a sequence, at most")
        ->capture_default_str()
        ->check(between<int64_t>(1, kMostTokens));
    command.add_option("--page-size", pageSize, "Tokens of a page")
        ->capture_default_str()
        ->check(between(1, 1 << 20));
    command.add_option("--rounds", rounds, "Timed replays of each graph")
        ->capture_default_str()
        ->check(between(1, 100000));
    command
        .add_option("--rows", rows,
                    "Rows compared with the reference at each length; 0 leaves the comparison out")
        ->capture_default_str()
        ->check(between(0, 100000));
    command.add_flag("--prepare", prepareOnly,
                     "Compile for --arch into the cache and stop; needs no GPU");
    command.add_flag("--no-prefill", noPrefill, "Leave prefill at its default");
    command.add_option("-o,--output", output, "A file of tuned configurations to append to");
  }

  Status run() {
    WINNOW_CHECK(readFlags());
    if (prepareOnly)
      return prepare();
    WINNOW_TRY(bench, DecodeBench::open(device));
    if (flags.arch.empty()) {
      const Target *own = nullptr;
      WINNOW_TRY(own, targetForDevice(bench->info().major, bench->info().minor));
      base.arch = own->arch;
    }
    base.form = bench->codeForm();
    WINNOW_TRY(sparse, side("sparse", kNeverDense));
    WINNOW_TRY(dense, side("dense", kAlwaysDense));
    const BenchInputs inputs(base.spec, std::max(most, least()), 1);
    text = &inputs;
    CrossingPoints points = CrossingPoints::byDefault(base.spec);
    if (!noPrefill) {
      const int end = std::min(most, kMostPrefillKeys);
      WINNOW_TRY(points.prefill, crossing(end, [](int keys) {
                   return DecodeShape{1, keys, std::min(keys, kPrefillQueries)};
                 }));
    }
    points.decode.clear();
    int end = most;
    for (const int sequences : batches) {
      WINNOW_TRY(const int keys,
                 crossing(end, [sequences](int count) { return DecodeShape{sequences, count}; }));
      points.decode.push_back({sequences, keys});
      end = std::min<int>(most, 2 * keys); // more sequences cross earlier
    }
    return tell(points);
  }

private:
  Status readFlags() {
    WINNOW_TRY(base, pagedRequest(flags));
    for (const auto &[name, value] : base.spec.params)
      if (CrossingPoints::isAuto(value))
        param = name;
    if (param.empty())
      return fail(ErrorKind::Usage, "name the parameter whose crossing is measured: "
                                    "--set dense_len=auto, where it is called so");
    batches = splitNumbers(batch);
    if (!std::is_sorted(batches.begin(), batches.end(), std::less_equal<int>()))
      return fail(ErrorKind::Usage, fmt::format("--batch {}: the numbers must rise", batch));
    return {};
  }

  CompileRequest requestFor(const char *points) const {
    CompileRequest request = base;
    request.spec.params[param] = points;
    return request;
  }

  Status prepare() {
    if (flags.arch.empty())
      return fail(ErrorKind::Usage, "--prepare needs --arch: there may be no GPU to ask");
    for (const char *points : {kNeverDense, kAlwaysDense})
      if (Result<ObtainedProgram> made = obtainProgram(requestFor(points), cache); !made)
        return tl::unexpected(made.error());
    say("2 programs are in the cache");
    return {};
  }

  Result<Side> side(const char *name, const char *points) {
    const CompileRequest request = requestFor(points);
    Side made;
    WINNOW_TRY(made.method, readAxes(request.method, request.spec));
    ObtainedProgram obtained;
    WINNOW_TRY(obtained, obtainProgram(request, cache));
    WINNOW_TRY(made.variant, bench->load(name, obtained.image));
    return made;
  }

  /// Keys of as many blocks as are selected: up to there nothing is left out.
  int least() const { return base.spec.topk * base.spec.block; }

  /// How much faster the selecting side is: 1 where both take the same time. Nothing where the
  /// tensors do not fit.
  Result<std::optional<double>> gainAt(const DecodeShape &shape) {
    const DecodeInputs inputs(base.spec, shape, Layout::Halves, pageSize, *text);
    double times[2] = {};
    for (Side *one : {&dense, &sparse}) {
      WINNOW_TRY(one->method.denseLen,
                 one->variant.program->denseLength(shape.batch, shape.queries));
      WINNOW_TRY(const std::string why, bench->place(inputs, one->method, one->variant));
      if (!why.empty())
        return std::optional<double>();
      WINNOW_TRY(const DecodeTiming timing, bench->measure(one->method, one->variant, Phase::All,
                                                           rounds, shape.queries == 1 ? rows : 0));
      if (!timing.fault.empty())
        return fail(ErrorKind::WrongResult,
                    fmt::format("{}, {}: {}", shapeText(shape), one->variant.name, timing.fault));
      times[one == &sparse] = timing.medianUs;
    }
    say(fmt::format("{}: dense {:.1f} us, sparse {:.1f} us", shapeText(shape), times[0], times[1]));
    return std::optional(times[0] / times[1]);
  }

  /// The length from which on the sparse side is the faster one, between least() and `end` keys.
  Result<int> crossing(int end, const std::function<DecodeShape(int)> &shapeOf) {
    double low = least(), high = std::max(end, least());
    while (high > low * kNearEnough) {
      const int keys = static_cast<int>(std::sqrt(low * high));
      WINNOW_TRY(const std::optional<double> gain, gainAt(shapeOf(keys)));
      // What does not fit never runs.
      (!gain || *gain > 1 ? high : low) = keys;
    }
    return static_cast<int>(high);
  }

  Status tell(const CrossingPoints &points) {
    CrossingRecord record;
    record.key.phase = kCrossingPhase;
    record.key.method = base.method;
    record.key.spec = base.spec;
    record.key.spec.params.erase(param);
    record.key.arch = base.arch;
    record.key.device = bench->info().name;
    record.points = points.text();
    record.protocol =
        fmt::format("graph replay, cold L2, both ways at each length to 3 %, pages of "
                    "{}{}",
                    pageSize, noPrefill ? "; prefill: the default" : "");
    record.code = generatorIdentity();
    record.driver = bench->driverText();
    record.date = today();
    const std::string line = crossingLine(record);
    fmt::print("{}\n", line);
    if (output.empty() || bench->emulated()) // whose times mean nothing
      return {};
    WINNOW_TRY(TuningFile file, TuningFile::open(output));
    return file.append({line});
  }

  ProgramFlags flags;
  std::string device = "0", batch = "1,2,4,8,16,32,64,128,256", output, param;
  int most = 262144, pageSize = 64, rounds = 20, rows = 4;
  bool noPrefill = false, prepareOnly = false;

  Cache cache;
  CompileRequest base; ///< with `auto`
  std::vector<int> batches;
  std::unique_ptr<DecodeBench> bench;
  Side sparse, dense;
  const BenchInputs *text = nullptr;
};

} // namespace

CLI::App *addCrossingCommand(CLI::App &bench, Session &session) {
  CLI::App *command = bench.add_subcommand(
      "crossing", "Measures from how many keys on a selection pays: dense_len=auto");
  command->footer(kCrossingHelp);
  auto state = std::make_shared<CrossingCommand>(*command);
  setBody(*command, session, [state] { return state->run(); });
  return command;
}

} // namespace winnow
