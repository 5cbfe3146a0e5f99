// `winnow cache`: what the kernel cache holds, and making it smaller.
#include "runtime/Cache.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/help.inc"
#include <ctime>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace winnow {
namespace {

std::string timeText(int64_t nanoseconds) {
  std::time_t seconds = nanoseconds / 1000000000;
  std::tm parts{};
  localtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  return text;
}

Status list(Session &session) {
  Cache cache;
  nlohmann::json entries = nlohmann::json::array();
  Table table({"program", "arch", "bytes", "last used", "key"});
  uint64_t bytes = 0;
  for (const Cache::Entry &entry : cache.entries()) {
    std::optional<ProgramImage> image = cache.load(entry.key);
    if (!image)
      continue; // invalid: just deleted
    bytes += entry.bytes;
    table.add({image->method, image->arch, std::to_string(entry.bytes), timeText(entry.lastUsed),
               entry.key.substr(0, 16)});
    entries.push_back({{"method", image->method},
                       {"arch", image->arch},
                       {"spec", image->spec.text()},
                       {"config", image->config.text()},
                       {"bytes", entry.bytes},
                       {"key", entry.key},
                       {"directory", entry.place},
                       {"writable", entry.layer == Cache::Layer::Writable}});
  }
  if (session.json) {
    fmt::print("{}\n", nlohmann::json{{"directory", cache.options().directory},
                                      {"bytes", bytes},
                                      {"entries", entries}}
                           .dump(2));
    return {};
  }
  if (!entries.empty())
    fmt::print("{}", table.text());
  say(fmt::format("{}: {} programs, {:.1f} MiB of at most {:.0f} MiB",
                  cache.options().directory.empty() ? "no cache directory"
                                                    : cache.options().directory,
                  entries.size(), bytes / 1048576.0, cache.options().limitBytes / 1048576.0));
  return {};
}

Status prune(Session &session, uint64_t limitMiB) {
  Cache cache;
  size_t removed = cache.prune(limitMiB << 20);
  if (session.json)
    fmt::print("{}\n", nlohmann::json{{"removed", removed}}.dump());
  else
    say(fmt::format("removed {} programs", removed));
  return {};
}

} // namespace

void addCacheCommand(CLI::App &app, Session &session) {
  CLI::App *command = app.add_subcommand("cache", "Shows or prunes the kernel cache");
  command->footer(kCacheHelp);
  command->require_subcommand(1);
  setBody(*command->add_subcommand("list", "Programs in the cache, most recently used first"),
          session, [&session] { return list(session); });
  CLI::App *pruning =
      command->add_subcommand("prune", "Deletes least recently used programs down to a size");
  auto limit = std::make_shared<uint64_t>(0);
  pruning->add_option("--limit-mib", *limit, "Size to keep")->required();
  setBody(*pruning, session, [&session, limit] { return prune(session, *limit); });
  setBody(*command->add_subcommand("clear", "Deletes every program in the writable directory"),
          session, [&session] { return prune(session, 0); });
}

} // namespace winnow
