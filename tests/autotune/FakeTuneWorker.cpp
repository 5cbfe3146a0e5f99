// A worker of the tuner that plays compiler and GPU: it answers the requests of
// autotune/search/Tuner.h with times made from the configuration's text. A script (JSON) says which
// configurations crash, hang, are wrong, or are fast:
//   {"device": "...", "sleep": seconds per launch, "default_ms": 10,
//    "compilers": file that gets the process number of each compilation, which then takes 0.1 s,
//    "configs": {"attend_stages=3": {"ms": 9, "do": "crash", "at": "time"}}}
// "at" is compile, load, cases, check or time; "do" is crash, hang, exhaust, wrong, or odd: an
// answer whose fields have the wrong types.
#include "autotune/search/Worker.h"
#include "runtime/cache/Files.h"
#include <chrono>
#include <csignal>
#include <fmt/format.h>
#include <fstream>
#include <map>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>

using namespace winnow;
using Json = nlohmann::json;

namespace {

class FakeWorker {
public:
  explicit FakeWorker(Json script) : script(std::move(script)) {}

  Result<Json> handle(const Json &request) {
    std::string what = request.value("do", "");
    if (what == "open") {
      std::string arch = request.value("arch", "");
      return Json{{"device", script.value("device", "Simulated GPU")},
                  {"arch", arch.empty() ? "sm_90a" : arch},
                  {"driver", "0"}};
    }
    if (what == "program") {
      configs.clear();
      return Json::object();
    }
    if (what == "workload")
      return Json{{"floor_ms", 5.0}};
    if (what == "compile")
      return compile(request);
    int id = request.value("candidate", -1);
    if (what == "load") {
      Result<std::string> text = readWholeFile(systemFiles(), request.value("path", ""));
      if (!text)
        return tl::unexpected(text.error());
      configs[id] = *text;
    }
    const std::string &config = configs[id];
    if (Result<Json> answer = act(config, what); !answer || !answer->empty())
      return answer;
    if (what == "cases" || what == "check")
      return Json{{"fault", ""}};
    if (what == "time")
      return Json{{"ms", time(config)}, {"clock_mhz", 1500}, {"watts", 400}};
    return Json::object();
  }

private:
  Result<Json> compile(const Json &request) {
    std::string config = request.value("config", "");
    std::string path = fmt::format("{}/{:x}.fake", request.value("directory", ""),
                                   std::hash<std::string>()(config));
    if (Result<Json> answer = act(config, "compile"); !answer || !answer->empty())
      return answer;
    if (std::string log = script.value("compilers", ""); !log.empty()) {
      std::ofstream(log, std::ios::app) << fmt::format("{}\n", ::getpid()) << std::flush;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    if (Status written = publishFile(systemFiles(), path, config); !written)
      return tl::unexpected(written.error());
    return Json{{"path", path}};
  }

  /// What the script has this configuration do at this step; an empty object: nothing.
  Result<Json> act(const std::string &config, const std::string &step) const {
    Json about = script.value("configs", Json::object()).value(config, Json::object());
    std::string what = about.value("at", "") == step ? about.value("do", "") : "";
    if (what == "crash") {
      std::signal(SIGSEGV, SIG_DFL); // a sanitizer's handler would end this by an exit
      std::raise(SIGSEGV);
    }
    if (what == "hang")
      for (;;)
        std::this_thread::sleep_for(std::chrono::hours(1));
    if (what == "exhaust") {
      struct rlimit limit = {size_t(256) << 20, size_t(256) << 20};
      ::setrlimit(RLIMIT_AS, &limit);
      for (std::vector<std::string> hoard;;)
        hoard.emplace_back(size_t(1) << 24, 'x');
    }
    if (what == "wrong")
      return Json{{"fault", "row 3 differs by 0.5"}};
    if (what == "odd")
      return Json{{"path", 7}, {"fault", Json::array()}, {"ms", "9"}};
    return Json::object();
  }

  double time(const std::string &config) {
    std::this_thread::sleep_for(std::chrono::duration<double>(script.value("sleep", 0.0)));
    // Noise of a percent, without a random device so that runs repeat.
    noise = noise * 6364136223846793005ULL + 1442695040888963407ULL;
    double factor = 1 + static_cast<double>(noise >> 40) / (1 << 24) * 0.01;
    double standard = script.value("default_ms", 10.0);
    double slower = 1 + static_cast<double>(std::hash<std::string>()(config) % 100) / 200;
    return script.value("configs", Json::object())
               .value(config, Json::object())
               .value("ms", config == "default" ? standard : standard * slower) *
           factor;
  }

  Json script;
  std::map<int, std::string> configs;
  uint64_t noise = 1;
};

} // namespace

int main(int argc, char **argv) {
  Json script = Json::object();
  if (argc > 2) // before the kind of worker, which it does not need to know
    if (Result<std::string> text = readWholeFile(systemFiles(), argv[1]))
      script = Json::parse(*text, nullptr, false);
  if (!script.is_object()) {
    fmt::print(stderr, "fake_tune_worker: {} is no JSON object\n", argv[1]);
    return 2;
  }
  FakeWorker worker(script);
  return serveRequests([&](const Json &request) { return worker.handle(request); });
}
