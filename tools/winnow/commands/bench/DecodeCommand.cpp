// Every combination of batch, length, queries and budget: compiled first, checked, then timed. A
// row that does not fit in device memory is left out, and that is said.
#include "tools/winnow/commands/bench/DecodeCommand.h"
#include "tools/winnow/ProgramFlags.h"
#include "tools/winnow/backends/HostMemory.h"
#include "tools/winnow/commands/bench/BenchReport.h"
#include "tools/winnow/commands/bench/DecodeReport.h"
#include "tools/winnow/commands/bench/LayoutFlags.h"
#include "tools/winnow/commands/bench/SpecGrid.h"
#include "tools/winnow/commands/prepare/Prepare.h"
#include "tools/winnow/commands/tune/TunedConfigs.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Flags.h"
#include "tools/winnow/io/Json.h"
#include <algorithm>
#include <fmt/format.h>
#include <limits>
#include <set>

namespace winnow {
namespace {

/// What an H200 reads from its memory in practice, of 4.8 by its data sheet.
constexpr double kTerabytesPerSecond = 4.3;
constexpr int kMostQueries = 4096;

class DecodeCommand {
public:
  DecodeCommand(CLI::App &command, Session &session) : session(session), command(command) {
    flags.addTo(command, /*methodRequired=*/false);
    command.remove_option(command.get_option("--topk"));  // here it takes a list
    command.remove_option(command.get_option("--paged")); // it always is
    addNumberList(command, "--topk", topk, "Blocks selected per token, separated by commas",
                  kMostSpecNumber);
    flags.addTargetFlags(command, "");
    command
        .add_option("--tuned", tuned,
                    "on: measure the tuned configuration instead of the default (see `winnow db`)")
        ->capture_default_str()
        ->check(CLI::IsMember({"on", "off"}))
        ->group("Tuned configurations");
    command
        .add_option("--device", device,
                    "GPU to use, counted from 0; emulated or emulated:ARCH: without one, for the "
                    "check alone")
        ->capture_default_str();
    addNumberList(command, "--batch", batch, "Sequences, separated by commas", kMostSequences);
    addNumberList(command, "--seq", seq, "Keys of a sequence, separated by commas", kMostTokens);
    addNumberList(command, "--queries", queries, "Query tokens of a sequence, separated by commas",
                  kMostQueries);
    addNumberList(command, "--overlap", overlap, "Likeness of neighbours, for --phase attend",
                  kMostTokens);
    command.add_flag("--ragged", ragged, "Lengths spread between a quarter of --seq and --seq");
    place.addTo(command);
    command
        .add_option("--page-run", pageRun,
                    "Pages of a sequence that lie beside each other, as an allocator leaves them")
        ->check(between(1, 1 << 20))
        ->capture_default_str();
    command
        .add_option("--phase", phase,
                    "all: the whole program in one launch; attend: attention over given ids; "
                    "separated by commas")
        ->check(listOf(CLI::IsMember({"all", "attend"})))
        ->capture_default_str();
    command.add_option("--peer", peerFile,
                       "JSON lines of another implementation, as tests/gpu/decode_peer.py prints "
                       "them");
    command.add_option("--rounds", rounds, "Timed replays of the graph")
        ->capture_default_str()
        ->check(between(1, 100000));
    command
        .add_option("--rows", rows,
                    "Rows compared with the reference first; 0 leaves the comparison out")
        ->check(between(0, 100000))
        ->capture_default_str();
    command.add_option("--bandwidth", bandwidth, "1e12 bytes per second behind the floor")
        ->check(between(1e-3, 1e6))
        ->capture_default_str();
    prepareOption.addTo(command);
  }

  Status run() {
    WINNOW_CHECK(readFlags());
    if (prepareOption.only)
      return prepare();
    WINNOW_TRY(bench, DecodeBench::open(device));
    std::vector<std::string> helperFlags{"--prepare"};
    if (flags.arch.empty()) {
      const Target *own = nullptr;
      WINNOW_TRY(own, targetForDevice(bench->info().major, bench->info().minor));
      base.arch = flags.arch = own->arch;
      helperFlags.insert(helperFlags.end(), {"--arch", flags.arch});
    }
    base.form = bench->codeForm();
    std::vector<CompileRequest> all;
    WINNOW_TRY(all, everyRequest());
    if (!bench->emulated()) // emulated kernels are compiled in moments
      preparePrograms(all, cache, {}, helperFlags);
    if (!session.json)
      fmt::print("{}, {}; {}; floor: selected keys and values and scored summaries, each read "
                 "once, at {} TB/s\n",
                 bench->info().name, bench->driverText(), programText(), bandwidth);
    for (int keys : lengths)
      for (int budget : budgets)
        WINNOW_CHECK(benchLength(keys, budget));
    return finish();
  }

private:
  Status readFlags() {
    WINNOW_TRY(base, pagedRequest(flags));
    lengths = splitNumbers(seq), budgets = splitNumbers(topk), batches = splitNumbers(batch);
    queryCounts = splitNumbers(queries), overlaps = splitNumbers(overlap);
    WINNOW_CHECK(place.read());
    if (!place.hasPages() && pageRun > 1)
      return fail(ErrorKind::Usage,
                  fmt::format("--page-run: the layout {} has no pages of a size", place.name()));
    for (const std::string &one : splitList(phase))
      (one == "all" ? measuresAll : measuresAttend) = true;
    for (int keys : lengths)
      for (int count : queryCounts)
        if (count > (ragged ? keys / 4 : keys))
          return fail(ErrorKind::Usage,
                      fmt::format("--queries {}: a sequence of {} keys has no such many tokens",
                                  count, ragged ? keys / 4 : keys));
    for (int keys : lengths)
      for (int count : batches)
        if (int64_t(keys) * count > std::numeric_limits<int32_t>::max())
          return fail(ErrorKind::Usage,
                      fmt::format("--batch {} of --seq {} are 2^31 tokens or more", count, keys));
    if (!peerFile.empty()) {
      WINNOW_TRY(peers, DecodePeer::load(peerFile));
    }
    return {};
  }

  Status prepare() {
    if (flags.arch.empty())
      return fail(ErrorKind::Usage, "--prepare needs --arch: there may be no GPU to ask");
    std::vector<CompileRequest> all;
    WINNOW_TRY(all, everyRequest());
    return prepareOption.run(all, cache);
  }

  Result<CompileRequest> requestFor(int keys, int budget, int sequences) {
    CompileRequest request = base;
    request.spec.topk = budget;
    WINNOW_CHECK(fitLocal(request.method, request.spec));
    const ChosenConfig choice =
        (tuned == "on" ? tunedConfigs : untunedConfigs)
            .fill(request, {keys, overlaps.front(), sequences}, bench ? bench->info().name : "");
    if (tuned == "on" || !choice.resolved.empty()) {
      const std::string note =
          fmt::format("{} keys, top-{}: {} [{}]", keys, budget,
                      choiceText(choice, /*selects=*/true), wordText(choice.config));
      if (told.insert(note).second)
        say(note);
    }
    return request;
  }

  Result<std::vector<CompileRequest>> everyRequest() {
    std::vector<CompileRequest> all;
    for (int keys : lengths)
      for (int budget : budgets)
        for (int sequences : batches) {
          WINNOW_TRY(CompileRequest request, requestFor(keys, budget, sequences));
          all.push_back(std::move(request));
        }
    return all;
  }

  /// Every batch over one text.
  Status benchLength(int keys, int budget) {
    WINNOW_CHECK(requireTensors(base.spec, keys));
    const BenchInputs text(base.spec, keys, 1);
    for (int sequences : batches)
      WINNOW_CHECK(benchBatch(text, keys, budget, sequences));
    return {};
  }

  /// Every number of queries; each batch may have a program of its own.
  Status benchBatch(const BenchInputs &text, int keys, int budget, int sequences) {
    WINNOW_TRY(CompileRequest request, requestFor(keys, budget, sequences));
    WINNOW_TRY(reference::Method method, readAxes(request.method, request.spec));
    ObtainedProgram obtained;
    WINNOW_TRY(obtained, obtainProgram(request, cache));
    WINNOW_TRY(Variant variant, bench->load(request.arch, obtained.image));
    for (int count : queryCounts) {
      const DecodeShape shape{sequences, keys, count, ragged, pageRun};
      const DecodeInputs inputs(request.spec, shape, place.layout, place.pageSize, text);
      if (method.denseByLaunch) {
        WINNOW_TRY(method.denseLen, variant.program->denseLength(sequences, count));
      }
      WINNOW_TRY(std::string why, bench->place(inputs, method, variant));
      if (!why.empty()) {
        skipped.push_back(fmt::format("{}, top-{}: left out: {}", shapeText(shape), budget, why));
        say(skipped.back());
        continue;
      }
      WINNOW_CHECK(benchRow(method, variant, inputs, shape, budget));
    }
    return {};
  }

  Status benchRow(const reference::Method &method, const Variant &variant,
                  const DecodeInputs &inputs, const DecodeShape &shape, int budget) {
    DecodeMeasurement about;
    about.variant = variant.name + (base.config.text() == Config().text() ? "" : " with --config");
    about.shape = shape;
    about.topk = budget;
    about.sets = bench->setCount();
    about.cold = bench->cold(method);
    about.denseLength = method.denseByLaunch ? method.denseLen : -1;
    if (measuresAll)
      WINNOW_CHECK(note(about, method, variant, Phase::All));
    about.wholeProgram = false;
    if (measuresAttend && method.selects)
      for (int likeness : overlaps) {
        about.overlap = likeness;
        WINNOW_CHECK(bench->placeIds(inputs.ids(method, likeness)));
        WINNOW_CHECK(note(about, method, variant, Phase::Attend));
      }
    return {};
  }

  Status note(DecodeMeasurement m, const reference::Method &method, const Variant &variant,
              Phase which) {
    m.checked = rows > 0;
    m.terabytesPerSecond = bandwidth;
    WINNOW_TRY(m.timing, bench->measure(method, variant, which, rounds, rows));
    if (!m.timing.fault.empty() && failure.empty())
      failure = fmt::format("{}: {}", shapeText(m.shape), m.timing.fault);
    fmt::print(session.json ? stderr : stdout, "{}", measurementText(m, peers));
    std::fflush(stdout);
    results.push_back(std::move(m));
    return {};
  }

  std::string programText() const {
    return winnow::programText(
        base, place.text() + (pageRun > 1 ? fmt::format(", runs of {} pages", pageRun) : ""));
  }

  Status finish() {
    if (session.json) {
      nlohmann::json object =
          runJson(bench->info().name, bench->driverText(), programText(), rounds, rows > 0);
      object.update({{"tb_per_s", bandwidth},
                     {"decode", nlohmann::json::array()},
                     {"skipped", skipped},
                     {"peers", nlohmann::json::array()}});
      for (const DecodeMeasurement &m : results)
        object["decode"].push_back(measurementJson(m));
      for (const DecodePeer &peer : peers)
        object["peers"].push_back(peerJson(peer));
      printJson(object);
    }
    if (!failure.empty())
      return fail(ErrorKind::WrongResult, failure);
    if (results.empty())
      return fail(ErrorKind::DeviceFailed, skipped.empty()
                                               ? "nothing to measure: --phase attend is "
                                                 "for methods that select"
                                               : "no row fits in device memory");
    return {};
  }

  Session &session;
  CLI::App &command;
  ProgramFlags flags;
  LayoutFlags place{"halves"};
  std::string tuned = "off", device = "0", batch = "1,4,16,64", seq = "32768,131072", queries = "1";
  std::string overlap = "32", topk = "96", phase = "all", peerFile;
  bool ragged = false;
  int rounds = 20, rows = 24, pageRun = 1;
  double bandwidth = kTerabytesPerSecond;

  PrepareOption prepareOption;
  Cache cache;
  CompileRequest base; ///< without the top-k
  bool measuresAll = false, measuresAttend = false;
  std::vector<int> lengths, budgets, batches, queryCounts, overlaps;
  std::vector<DecodePeer> peers;
  TunedConfigs tunedConfigs{true}, untunedConfigs{false}; ///< the latter looks `auto` up alone
  std::unique_ptr<DecodeBench> bench;
  std::set<std::string> told; ///< notes
  std::vector<DecodeMeasurement> results;
  std::vector<std::string> skipped;
  std::string failure;
};

} // namespace

CLI::App *addDecodeCommand(CLI::App &bench, Session &session) {
  CLI::App *command =
      bench.add_subcommand("decode", "Measures a few query tokens per sequence over pages of keys");
  command->footer(kDecodeHelp);
  auto state = std::make_shared<DecodeCommand>(*command, session);
  setBody(*command, session, [state] { return state->run(); });
  return command;
}

} // namespace winnow
