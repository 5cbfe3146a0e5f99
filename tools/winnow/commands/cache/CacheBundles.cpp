// `winnow cache export` and `import`: many programs in one file, for images of containers,
// read-only installations and engines that carry their kernels in their binary.
#include "runtime/cache/Cache.h"
#include "tools/winnow/commands/cache/CacheCommands.h"
#include "tools/winnow/io/Flags.h"
#include "tools/winnow/io/Json.h"
#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace winnow {
namespace {

using nlohmann::json;

struct ExportFlags {
  std::string path, archs, methods;
};

bool chosen(const std::string &list, const std::string &name) {
  std::vector<std::string> names = splitList(list);
  return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
}

Status exportBundle(Session &session, const ExportFlags &flags) {
  Cache cache;
  std::map<std::string, std::string> images;
  uint64_t bytes = 0;
  std::vector<std::string> damaged;
  for (const Cache::Entry &entry : cache.entries()) {
    Result<ProgramImage> image = cache.inspect(entry);
    if (!image) {
      damaged.push_back(image.error().message);
      continue;
    }
    if (!chosen(flags.archs, image->arch) || !chosen(flags.methods, image->method) ||
        images.count(entry.key) > 0)
      continue;
    WINNOW_TRY(std::string packed, serializeImage(*image));
    bytes += packed.size();
    images[entry.key] = std::move(packed);
  }
  for (const std::string &problem : damaged)
    say("left out: " + problem);
  if (images.empty())
    return fail(ErrorKind::Usage, "the cache holds no such program: nothing was written");
  WINNOW_CHECK(writeBundle(systemFiles(), flags.path, images));
  if (session.json)
    printJson(json{{"bundle", flags.path},
                   {"programs", images.size()},
                   {"bytes", bytes},
                   {"damaged", damaged.size()}});
  else
    say(fmt::format("wrote {}: {} programs, {:.1f} MiB", flags.path, images.size(),
                    bytes / 1048576.0));
  return {};
}

Status importBundle(Session &session, const std::string &path) {
  CacheOptions options = defaultCacheOptions();
  options.readOnly.clear();
  options.bundles.clear();
  Cache own(options); // the writable directory alone
  options.bundles = {path};
  options.warn = [](const std::string &) {}; // what is wrong with the bundle is told below
  Cache both(options);
  uint64_t bytes = 0;
  for (const Cache::LayerState &state : both.layers())
    if (state.layer == Cache::Layer::Bundle && !state.unused.empty())
      return fail(ErrorKind::Usage, fmt::format("{}: {}", path, state.unused));
    else if (state.layer == Cache::Layer::Bundle)
      bytes = state.bytes;
  if (bytes > options.limitBytes)
    return fail(ErrorKind::Usage,
                fmt::format("{} holds {} MiB of programs, the cache at most {}: raise "
                            "WINNOW_CACHE_LIMIT_MB, or name the bundle in WINNOW_CACHE_BUNDLES",
                            path, bytes >> 20, options.limitBytes >> 20));
  size_t imported = 0, present = 0;
  std::vector<std::string> damaged;
  for (const Cache::Entry &entry : both.entries()) {
    if (entry.layer != Cache::Layer::Bundle)
      continue;
    if (own.load(entry.key)) {
      ++present;
      continue;
    }
    Result<ProgramImage> image = both.inspect(entry);
    if (!image) {
      damaged.push_back(image.error().message);
      continue;
    }
    WINNOW_CHECK(own.store(*image));
    if (!own.load(entry.key))
      return fail(ErrorKind::Usage, "the cache directory cannot be used: nothing was imported");
    ++imported;
  }
  if (session.json)
    printJson(json{{"directory", options.directory},
                   {"imported", imported},
                   {"present", present},
                   {"damaged", damaged}});
  else
    say(fmt::format("{}: {} programs imported, {} were there", options.directory, imported,
                    present));
  if (damaged.empty())
    return {};
  return fail(ErrorKind::WrongResult, fmt::format("{} programs of the bundle are damaged, e.g. {}",
                                                  damaged.size(), damaged.front()));
}

} // namespace

void addBundleCommands(CLI::App &cache, Session &session) {
  CLI::App *exporting =
      cache.add_subcommand("export", "Writes programs of the cache into one bundle file");
  auto flags = std::make_shared<ExportFlags>();
  exporting->add_option("BUNDLE", flags->path, "File to write")->required();
  exporting->add_option("--arch", flags->archs, "Only these architectures, separated by commas")
      ->check(listOf());
  exporting->add_option("--method", flags->methods, "Only these methods, separated by commas")
      ->check(listOf());
  setBody(*exporting, session, [&session, flags] { return exportBundle(session, *flags); });
  CLI::App *importing =
      cache.add_subcommand("import", "Copies a bundle's programs into the writable directory");
  auto path = std::make_shared<std::string>();
  importing->add_option("BUNDLE", *path, "File made by export")->required();
  setBody(*importing, session, [&session, path] { return importBundle(session, *path); });
}

} // namespace winnow
