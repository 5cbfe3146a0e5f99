// `winnow report`: tuned files as one page that explains itself, or the figures behind it as JSON.
#include "autotune/report/Report.h"
#include "autotune/report/ReportPage.h"
#include "runtime/cache/Files.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Json.h"
#include <fmt/format.h>
#include <iterator>

namespace winnow {
namespace {

class ReportCommand {
public:
  ReportCommand(CLI::App &command, Session &session) : session(session) {
    command.add_option("DB", files, "Tuned files, JSON lines")->required();
    command.add_option("-o,--out", out, "The page to write");
    command.add_option("--title", title, "The page's title")->capture_default_str();
  }

  Status run() {
    if (out.empty() && !session.json)
      return fail(ErrorKind::Usage, "name the page with -o, or ask for the figures with --json");
    TuningLines all;
    for (const std::string &path : files)
      WINNOW_CHECK(read(path, all));
    if (!all.faults.empty())
      say(fmt::format("{} lines were skipped, the first one: {}", all.faults.size(),
                      all.faults.front()));
    nlohmann::ordered_json figures = reportFigures(all);
    if (all.records.empty() && !all.trials.empty())
      say(fmt::format("no task is finished in {}: {} candidates were tried; `winnow tune` goes on "
                      "with the same flags, --db FILE and --resume",
                      fmt::join(files, ", "), all.trials.size()));
    if (!out.empty()) {
      std::string page = reportPage(figures, title);
      WINNOW_CHECK(publishFile(systemFiles(), out, page));
      say(fmt::format(
          "{}: {} keys, {} candidates, {:.0f} KiB", out, figures["head"]["keys"].get<size_t>(),
          figures["head"]["trials"].get<size_t>(), static_cast<double>(page.size()) / 1024));
    }
    if (session.json)
      printJson(figures, -1);
    return {};
  }

private:
  static Status read(const std::string &path, TuningLines &all) {
    WINNOW_TRY(std::string text, readWholeFile(systemFiles(), path, kMaxTunedBytes));
    TuningLines lines = parseTuningLines(text);
    // A page travels: it names the file, not the folders of this machine.
    std::string name = path.substr(path.rfind('/') + 1);
    for (const std::string &fault : lines.faults)
      all.faults.push_back(fmt::format("{}: {}", name, fault));
    std::move(lines.records.begin(), lines.records.end(), std::back_inserter(all.records));
    std::move(lines.trials.begin(), lines.trials.end(), std::back_inserter(all.trials));
    return {};
  }

  Session &session;
  std::vector<std::string> files;
  std::string out, title = "Winnow: what tuning found";
};

} // namespace

void addReportCommand(CLI::App &app, Session &session) {
  CLI::App *command = app.add_subcommand("report", "Draws tuned files as one page");
  command->footer(kReportHelp);
  auto state = std::make_shared<ReportCommand>(*command, session);
  setBody(*command, session, [state] { return state->run(); });
}

} // namespace winnow
