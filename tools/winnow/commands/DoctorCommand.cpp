// `winnow doctor`: what Winnow finds on this machine, and every environment variable that it reads.
#include "runtime/Environment.h"
#include "runtime/cache/Cache.h"
#include "runtime/device/Driver.h"
#include "runtime/device/Target.h"
#include "runtime/tuned/TunedDatabase.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Json.h"
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <thread>
#include <unistd.h>
#if WINNOW_COMPILER
#include "compiler/cuda/Nvrtc.h"
#endif

namespace winnow {
namespace {

using nlohmann::json;

json driverFacts() {
  Result<std::shared_ptr<Driver>> driver = Driver::open();
  if (!driver)
    return {{"found", false}, {"why", driver.error().message}, {"devices", json::array()}};
  json devices = json::array();
  for (const DeviceInfo &device : (*driver)->devices()) {
    Result<const Target *> target = targetForDevice(device.major, device.minor);
    devices.push_back({{"index", device.index},
                       {"name", device.name},
                       {"uuid", device.uuid},
                       {"compute_capability", fmt::format("{}.{}", device.major, device.minor)},
                       {"arch", target ? json((*target)->arch) : json(nullptr)},
                       {"memory_gib", static_cast<double>(device.memoryBytes) / (1 << 30)},
                       {"multiprocessors", device.smCount},
                       {"shared_bytes_per_block", device.sharedPerBlock}});
  }
  int version = (*driver)->version();
  return {{"found", true},
          {"path", (*driver)->path()},
          {"version", fmt::format("{}.{}", version / 1000, version % 1000 / 10)},
          {"devices", devices}};
}

json nvrtcFacts() {
#if WINNOW_COMPILER
  auto nvrtc = Nvrtc::open();
  if (!nvrtc)
    return {{"found", false}, {"why", nvrtc.error().message}};
  return {{"found", true}, {"path", (*nvrtc)->path()}, {"version", (*nvrtc)->version()}};
#else
  return {{"found", false}, {"why", "this build has no compiler"}};
#endif
}

json cacheFacts() {
  CacheOptions options = defaultCacheOptions();
  options.warn = [](const std::string &) {}; // what is wrong is told below
  json warnings = options.problems, layers = json::array();
  for (const Cache::LayerState &state : Cache(options).layers())
    if (state.layer != Cache::Layer::Writable)
      layers.push_back({{"place", state.place},
                        {"kind", state.layer == Cache::Layer::Bundle ? "bundle" : "read only"},
                        {"why_not", state.unused}});
  bool exists = !options.directory.empty() && ::access(options.directory.c_str(), F_OK) == 0;
  bool writable = exists && ::access(options.directory.c_str(), W_OK) == 0;
  return {{"directory", options.directory},
          {"state", options.directory.empty() ? "none: kernels live in memory only"
                    : !exists                 ? "made at the first use"
                    : writable                ? "writable"
                                              : "not writable: kernels live in memory only"},
          {"read_only", options.readOnly},
          {"layers", layers},
          {"warnings", warnings},
          {"limit_mib", options.limitBytes >> 20}};
}

json tunedFacts() {
  TunedDatabase all = TunedDatabase::load(defaultTunedFiles());
  return {{"records", all.records().size()},
          {"shipped", TunedDatabase::load({}).records().size()},
          {"files", defaultTunedFiles()},
          {"faults", all.faults()}};
}

json facts() {
  json environment = json::array();
  for (const EnvironmentEntry &entry : environmentRegistry())
    environment.push_back({{"name", entry.name},
                           {"value", environmentValue(entry.variable)},
                           {"meaning", entry.meaning}});
  json archs = json::array();
  for (const Target &target : targets())
    archs.push_back(target.arch);
  return {{"winnow", WINNOW_VERSION},
          {"compiler", static_cast<bool>(WINNOW_COMPILER)},
          {"cpu_target", static_cast<bool>(WINNOW_CPU)},
          {"cpu_threads", std::thread::hardware_concurrency()},
          {"architectures", archs},
          {"driver", driverFacts()},
          {"nvrtc", nvrtcFacts()},
          {"cache", cacheFacts()},
          {"tuned", tunedFacts()},
          {"environment", environment}};
}

void printFacts(const json &all) {
  auto text = [](const json &value) {
    return value.is_string() ? value.get<std::string>() : textOf(value);
  };
  auto row = [](const std::string &name, const std::string &value) {
    fmt::print("{:<14} {}\n", name, value);
  };
  row("winnow", fmt::format("{} (compiler: {}, CPU target: {})", text(all["winnow"]),
                            all["compiler"] ? "yes" : "no", all["cpu_target"] ? "yes" : "no"));
  std::string archs;
  for (const json &arch : all["architectures"])
    archs += (archs.empty() ? "" : ", ") + text(arch);
  row("architectures", archs);
  row("CPU", fmt::format("{} threads", text(all["cpu_threads"])));
  const json &driver = all["driver"], &nvrtc = all["nvrtc"], &cache = all["cache"];
  row("driver", driver["found"]
                    ? fmt::format("CUDA {} ({})", text(driver["version"]), text(driver["path"]))
                    : text(driver["why"]));
  for (const json &device : driver["devices"])
    row(fmt::format("  device {}", text(device["index"])),
        fmt::format("{}, compute capability {}, {:.0f} GiB, code: {}", text(device["name"]),
                    text(device["compute_capability"]), device["memory_gib"].get<double>(),
                    device["arch"].is_null() ? "none" : text(device["arch"])));
  row("NVRTC", nvrtc["found"] ? fmt::format("{} ({})", text(nvrtc["version"]), text(nvrtc["path"]))
                              : text(nvrtc["why"]));
  row("cache", fmt::format("{} ({}, at most {} MiB)", text(cache["directory"]),
                           text(cache["state"]), text(cache["limit_mib"])));
  for (const json &layer : cache["layers"]) {
    const std::string whyNot = text(layer["why_not"]);
    row("", fmt::format("{} ({}{})", text(layer["place"]), text(layer["kind"]),
                        whyNot.empty() ? "" : "; not used: " + whyNot));
  }
  for (const json &warning : cache["warnings"])
    row("", "warning: " + text(warning));
  const json &tuned = all["tuned"];
  row("tuned", fmt::format("{} configurations; {} came with this build", text(tuned["records"]),
                           text(tuned["shipped"])));
  for (const json &path : tuned["files"])
    row("", text(path));
  for (const json &fault : tuned["faults"])
    row("", "skipped: " + text(fault));
  fmt::print("\nEnvironment variables that Winnow reads:\n");
  for (const json &entry : all["environment"])
    fmt::print("  {:<22} {}\n  {:<22} {}\n", text(entry["name"]),
               text(entry["value"]).empty() ? "(not set)" : text(entry["value"]), "",
               text(entry["meaning"]));
}

} // namespace

void addDoctorCommand(CLI::App &app, Session &session) {
  CLI::App *command =
      app.add_subcommand("doctor", "Shows what this machine has and what Winnow reads");
  command->footer(kDoctorHelp);
  setBody(*command, session, [&session]() -> Status {
    json all = facts();
    if (session.json)
      printJson(all);
    else
      printFacts(all);
    return {};
  });
}

} // namespace winnow
