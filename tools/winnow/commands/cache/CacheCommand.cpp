// `winnow cache`: what the kernel cache holds, whether it is sound, and making it smaller.
#include "runtime/cache/Cache.h"
#include "runtime/cache/CacheFiles.h"
#include "tools/winnow/commands/cache/CacheCommands.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Flags.h"
#include "tools/winnow/io/Json.h"
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

const char *kindOf(Cache::Layer layer) {
  return layer == Cache::Layer::Writable   ? "writable"
         : layer == Cache::Layer::ReadOnly ? "read only"
                                           : "bundle";
}

/// Warnings of these commands would repeat what they report.
Cache quietCache() {
  CacheOptions options = defaultCacheOptions();
  options.warn = [](const std::string &) {};
  return Cache(options);
}

Status list(Session &session) {
  Cache cache;
  nlohmann::json entries = nlohmann::json::array();
  Table table({"program", "arch", "bytes", "last used", "key"});
  uint64_t bytes = 0;
  for (const Cache::Entry &entry : cache.entries()) {
    Result<ProgramImage> image = cache.inspect(entry); // looking is not using
    if (!image) {
      say("damaged: " + image.error().message);
      continue;
    }
    bytes += entry.bytes;
    table.add({image->method, image->arch, std::to_string(entry.bytes),
               entry.lastUsed ? timeText(entry.lastUsed) : "in a bundle", entry.key.substr(0, 16)});
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
    printJson(nlohmann::json{
        {"directory", cache.options().directory}, {"bytes", bytes}, {"entries", entries}});
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

Status stat(Session &session) {
  Cache cache = quietCache();
  nlohmann::json layers = nlohmann::json::array();
  Table table({"place", "kind", "programs", "bytes", "temporaries", "used"});
  uint64_t writableBytes = 0;
  for (const Cache::LayerState &state : cache.layers()) {
    writableBytes += state.layer == Cache::Layer::Writable ? state.bytes : 0;
    table.add({state.place, kindOf(state.layer), std::to_string(state.entries),
               std::to_string(state.bytes), std::to_string(state.temporaries),
               state.unused.empty() ? "yes" : "no: " + state.unused});
    layers.push_back({{"place", state.place},
                      {"kind", kindOf(state.layer)},
                      {"used", state.unused.empty()},
                      {"why_not", state.unused},
                      {"programs", state.entries},
                      {"bytes", state.bytes},
                      {"temporaries", state.temporaries},
                      {"temporary_bytes", state.temporaryBytes}});
  }
  const uint64_t limit = cache.options().limitBytes;
  if (session.json) {
    printJson(nlohmann::json{{"layers", layers}, {"bytes", writableBytes}, {"limit_bytes", limit}});
    return {};
  }
  if (!layers.empty())
    fmt::print("{}", table.text());
  say(layers.empty() ? "no cache directory is known: kernels live in memory only"
                     : fmt::format("{:.1f} MiB of at most {:.0f} MiB", writableBytes / 1048576.0,
                                   limit / 1048576.0));
  return {};
}

Status verify(Session &session) {
  Cache cache = quietCache();
  size_t checked = 0;
  std::vector<std::string> kept, deleted;
  for (const Cache::LayerState &state : cache.layers())
    if (!state.unused.empty() && !state.missing)
      kept.push_back(fmt::format("{}: {}", state.place, state.unused));
  for (const Cache::Entry &entry : cache.entries()) {
    ++checked;
    Result<ProgramImage> image = cache.inspect(entry);
    if (image)
      continue;
    bool isThere = true;
    if (entry.layer == Cache::Layer::Writable) {
      (void)cache.load(entry.key); // deletes what is damaged, unless it was replaced just now
      if (cache.inspect(entry))
        continue;
      struct stat info;
      isThere = ::lstat(pathOf(entry.place, entry.key).c_str(), &info) == 0;
    }
    (isThere ? kept : deleted).push_back(image.error().message); // e.g. somebody else's file
  }
  if (session.json) {
    printJson(nlohmann::json{{"programs", checked}, {"deleted", deleted}, {"damaged", kept}});
  } else {
    for (const std::string &problem : deleted)
      say("deleted: " + problem);
    for (const std::string &problem : kept)
      say("stays: " + problem);
    say(fmt::format("{} programs checked, {} deleted, {} cannot be used and stay", checked,
                    deleted.size(), kept.size()));
  }
  return kept.empty() ? Status()
                      : Status(fail(ErrorKind::WrongResult,
                                    "there is something in the cache that cannot be used"));
}

Status prune(Session &session, uint64_t limitMiB) {
  Cache cache;
  size_t removed = cache.prune(limitMiB << 20);
  if (session.json)
    printJson(nlohmann::json{{"removed", removed}}, -1);
  else
    say(fmt::format("removed {} programs", removed));
  return {};
}

} // namespace

void addCacheCommand(CLI::App &app, Session &session) {
  CLI::App *command = app.add_subcommand("cache", "Shows, checks, ships or prunes cached programs");
  command->footer(kCacheHelp);
  command->require_subcommand(1);
  CLI::App *listing = command->add_subcommand("ls", "Programs, most recently used first");
  listing->alias("list");
  setBody(*listing, session, [&session] { return list(session); });
  setBody(*command->add_subcommand("stat", "Directories and bundles, whether each is used, sizes"),
          session, [&session] { return stat(session); });
  setBody(*command->add_subcommand("verify", "Reads every program; damaged ones are deleted"),
          session, [&session] { return verify(session); });
  CLI::App *pruning =
      command->add_subcommand("gc", "Deletes least recently used programs down to a size");
  pruning->alias("prune");
  auto limit = std::make_shared<uint64_t>(defaultCacheOptions().limitBytes >> 20);
  pruning->add_option("--limit-mib", *limit, "Size to keep; default: WINNOW_CACHE_LIMIT_MB")
      ->check(between<uint64_t>(0, uint64_t(1) << 43)); // in bytes it would wrap to little
  setBody(*pruning, session, [&session, limit] { return prune(session, *limit); });
  setBody(*command->add_subcommand("clear", "Deletes every program in the writable directory"),
          session, [&session] { return prune(session, 0); });
  addBundleCommands(*command, session);
  addWhyMissCommand(*command, session);
}

} // namespace winnow
