// `winnow db`: what is known about tuned configurations, which of them a program gets, and files of
// them compared, merged and checked.
#include "runtime/Printable.h"
#include "runtime/tuned/TunedLadder.h"
#include "tools/winnow/ProgramFlags.h"
#include "tools/winnow/commands/db/DbFiles.h"
#include "tools/winnow/commands/prepare/Programs.h"
#include "tools/winnow/commands/tune/TunedConfigs.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Json.h"
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace winnow {
namespace {

using Json = nlohmann::ordered_json;

/// "h32/2 d128 b64 k96 bf16", with what is set beside it.
std::string shortSpec(const Spec &spec) {
  std::string text = fmt::format("h{}/{} d{}", spec.heads, spec.kvHeads, spec.headDim);
  if (spec.valueWidth() != spec.headDim)
    text += fmt::format("/{}", spec.valueWidth());
  text += fmt::format(" b{} k{} {}", spec.block, spec.topk, name(spec.dtype));
  return spec.hasFp8Keys() ? fmt::format("{} {}", text, name(spec.kvDtype)) : text;
}

std::string msText(double ms) { return ms > 0 ? fmt::format("{:.4g}", ms) : "?"; }

std::string gainText(const TuningRecord &record) {
  return record.ms > 0 && record.defaultMs > 0 ? fmt::format("{:.3f}", record.defaultMs / record.ms)
                                               : "?";
}

Json recordJson(const TuningRecord &record) { return Json::parse(recordLine(record)); }

class DbCommand {
public:
  DbCommand(CLI::App &command, Session &session) : session(session) {
    CLI::App *ls = add(command, "ls", "One line per record", [this] { return list(); });
    addFiles(*ls, "FILE,--db");
    CLI::App *show =
        add(command, "show", "Whole records and their trials", [this] { return showRecords(); });
    show->add_option("FILTER", filter, "Words that the key must hold, e.g. attend tokens=131072")
        ->required();
    addFiles(*show);
    CLI::App *diff = add(command, "diff", "Which keys differ between two files, and how",
                         [this] { return differences(); });
    diff->add_option("A", before, "A file of tuned configurations")->required();
    diff->add_option("B", after, "Another one")->required();
    auto writing = [&](const char *what, const char *words, bool withTrials) {
      CLI::App *one = add(command, what, words, [=] {
        return mergeTunedFiles(this->session, named, output, withTrials);
      });
      one->add_option("FILE", named, "Files of tuned configurations")->required();
      one->add_option("-o,--output", output, "The file to write")->required();
    };
    writing("merge", "Best record of each key, every trial once; any order of files: same bytes",
            /*withTrials=*/true);
    writing("export", "Records alone, sorted: the form that is shipped", /*withTrials=*/false);
    CLI::App *import = add(command, "import", "Merges files into the user's own",
                           [this] { return importTunedFiles(this->session, named); });
    import->add_option("FILE", named, "Files of tuned configurations")->required();
    CLI::App *verify = add(command, "verify", "Lists what this build cannot use; exit code 1",
                           [this] { return verifyTunedFiles(this->session, named); });
    verify->add_option("FILE", named, "Files of tuned configurations")->required();
    CLI::App *lookup = add(command, "lookup", "Which configuration a program gets, and why",
                           [this] { return answer(); });
    flags.addTo(*lookup);
    flags.addTargetFlags(*lookup, "sm_80,sm_89,sm_90a");
    flags.addTunedFlags(*lookup, /*withHints=*/true);
    addFiles(*lookup);
  }

private:
  CLI::App *add(CLI::App &command, const char *what, const char *words,
                std::function<Status()> body) {
    CLI::App *one = command.add_subcommand(what, words);
    setBody(*one, session, std::move(body));
    return one;
  }
  void addFiles(CLI::App &command, const char *name = "--db") {
    command.add_option(name, sources,
                       "A file to read instead of the shipped and the user's; may be given several "
                       "times");
  }

  Result<TunedDatabase> read() const {
    if (!sources.empty())
      return readTunedFiles(sources);
    TunedDatabase database = TunedDatabase::load(defaultTunedFiles());
    for (const std::string &fault : database.faults())
      say("skipped: " + fault);
    return database;
  }

  Status list() {
    WINNOW_TRY(TunedDatabase database, read());
    Json records = Json::array();
    Table table({"phase", "method", "spec", "tokens", "overlap", "batch", "device", "config", "ms",
                 "default / it", "origin", "effort"});
    for (const auto &[text, record] : database.records()) {
      const TuningKey &key = record.key;
      table.add({key.phase, key.method, shortSpec(key.spec), std::to_string(key.tokens),
                 std::to_string(key.overlap), key.batch ? std::to_string(key.batch) : "",
                 key.device, wordText(record.config), msText(record.ms), gainText(record),
                 record.origin, record.effort});
      records.push_back(recordJson(record));
    }
    for (const auto &[text, record] : database.crossings()) {
      const TuningKey &key = record.key;
      table.add({key.phase, key.method, shortSpec(key.spec), "", "", "", key.device, record.points,
                 "", "", record.origin, ""});
      records.push_back(Json::parse(crossingLine(record)));
    }
    if (session.json)
      printJson(records);
    else if (!records.empty())
      fmt::print("{}", table.text());
    else
      say("no tuned configurations");
    return {};
  }

  Status showRecords() {
    WINNOW_TRY(TunedDatabase database, read());
    Json all = Json::array();
    for (const auto &[text, record] : database.records()) {
      bool matches = true;
      for (const std::string &word : filter)
        matches &= text.find(word) != std::string::npos;
      if (!matches)
        continue;
      Json object{{"record", recordJson(record)}, {"trials", Json::array()}};
      for (const TuningTrial &trial : database.trialsOf(text))
        object["trials"].push_back(Json::parse(trialLine(trial)));
      if (!session.json)
        printRecord(object);
      all.push_back(std::move(object));
    }
    if (all.empty())
      return fail(ErrorKind::Usage, fmt::format("no key holds '{}'; `winnow db ls` lists them "
                                                "(files are named by --db)",
                                                fmt::join(filter, "' and '")));
    if (session.json)
      printJson(all);
    return {};
  }

  static void printRecord(const Json &object) {
    for (const auto &[field, value] : object["record"].items())
      fmt::print("{:<11} {}\n", field,
                 printable(value.is_string() ? value.get<std::string>() : textOf(value)));
    Table table({"trial", "outcome", "ms", "rounds", "reason"});
    for (const Json &trial : object["trials"])
      table.add({trial["config"], trial["outcome"], msText(trial["ms"]), textOf(trial["rounds"]),
                 trial["reason"]});
    if (!object["trials"].empty())
      fmt::print("{}", table.text());
    fmt::print("\n");
  }

  Status differences() {
    WINNOW_TRY(TunedDatabase a, readTunedFiles({before}));
    WINNOW_TRY(TunedDatabase b, readTunedFiles({after}));
    std::map<std::string, std::pair<const TuningRecord *, const TuningRecord *>> both;
    for (const auto &[text, record] : a.records())
      both[text].first = &record;
    for (const auto &[text, record] : b.records())
      both[text].second = &record;
    Json changes = Json::array();
    auto side = [](const TuningRecord *record) -> Json {
      if (!record)
        return nullptr;
      return {
          {"config", shortText(record->config)}, {"ms", record->ms}, {"origin", record->origin}};
    };
    for (const auto &[text, pair] : both) {
      Json from = side(pair.first), to = side(pair.second);
      if (from == to)
        continue;
      changes.push_back({{"key", text}, {"a", from}, {"b", to}});
      if (session.json)
        continue;
      auto words = [](const TuningRecord *r) {
        return fmt::format("[{}] {} ms, {}", wordText(r->config), msText(r->ms), r->origin);
      };
      fmt::print("{} {}\n", from.is_null() ? "+" : to.is_null() ? "-" : "~", printable(text));
      for (const TuningRecord *record : {pair.first, pair.second})
        if (record)
          fmt::print("    {} {}\n", record == pair.first ? "a" : "b", printable(words(record)));
    }
    if (session.json)
      printJson(changes);
    else
      say(fmt::format("{} of {} keys differ", changes.size(), both.size()));
    return {};
  }

  Status answer() {
    WINNOW_TRY(CompileRequest parsed, flags.request());
    WINNOW_TRY(std::vector<std::string> archs, flags.architectures());
    TuningOptions options;
    options.on = flags.tunes();
    options.shipped = sources.empty();
    if (!sources.empty())
      options.files = sources;
    TunedConfigs tuned(options);
    nlohmann::json object;
    Table table({"arch", "phase", "rung", "config", "why"});
    for (const std::string &arch : archs) {
      CompileRequest request = parsed;
      request.arch = arch;
      WINNOW_CHECK(isServed(request));
      ChosenConfig choice = tuned.fill(request, flags.workload, flags.deviceName);
      object[arch] = choiceJson(choice);
      for (auto [phase, found] : choice.answers())
        table.add({arch, phase, name(found->rung), wordText(found->config), found->why});
      if (const CrossingAnswer &crossing = choice.crossing; !choice.resolved.empty())
        table.add({arch, kCrossingPhase, name(crossing.rung), crossing.points, crossing.why});
    }
    if (session.json)
      printJson(object);
    else
      fmt::print("{}", table.text());
    return {};
  }

  Session &session;
  ProgramFlags flags;
  std::vector<std::string> sources, filter, named;
  std::string before, after, output;
};

} // namespace

void addDbCommand(CLI::App &app, Session &session) {
  CLI::App *command = app.add_subcommand("db", "Shows, looks up, merges and checks tuned "
                                               "configurations");
  command->footer(kDbHelp);
  command->require_subcommand(1);
  auto state = std::make_shared<DbCommand>(*command, session);
  command->callback([state] {}); // keeps the state alive: the subcommands' bodies refer to it
}

} // namespace winnow
