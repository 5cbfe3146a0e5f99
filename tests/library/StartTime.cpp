// How long an engine takes from nothing to programs that can be launched, with the steps of
// examples/engine_cpp: open the compiler library, create the engine, prepare a list. Usage:
// start_time COMPILER DRIVER; the cache is that of the environment. Prints "compiler_ms N engine_ms
// N prepare_ms N cpu_ms N builds N", the last time that of all threads. Run in fresh processes by
// start_time.py.
#include "runtime/api/winnow.hpp"
#include <chrono>
#include <cstdio>
#include <ctime>

namespace {

class Clock {
public:
  /// Milliseconds since the last call.
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const double passed = std::chrono::duration<double, std::milli>(now - last).count();
    last = now;
    return passed;
  }

private:
  std::chrono::steady_clock::time_point last = std::chrono::steady_clock::now();
};

int stop(const winnow::Status &status) {
  std::fprintf(stderr, "start_time: %s\n", status.message().c_str());
  return 1;
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 3)
    return 2;
  Clock clock;
  const std::clock_t begin = std::clock();
  auto compiler = winnow::loadCompiler(argv[1]);
  if (!compiler)
    return stop(compiler.status());
  const double compilerMs = clock.lap();
  winnow::EngineOptions options;
  options.compiler = *compiler;
  options.driver_path = argv[2];
  auto engine = winnow::Engine::create(options);
  if (!engine)
    return stop(engine.status());
  const double engineMs = clock.lap();
  winnow::Spec packed, paged; // prefill and decode of one model
  packed.method = paged.method = "infllm_v2";
  packed.heads = paged.heads = 32;
  packed.kvHeads = paged.kvHeads = 2;
  paged.paged = true;
  std::vector<winnow::Program> programs;
  if (auto status = engine->prepare({packed, paged}, 0, programs); !status)
    return stop(status);
  const double prepareMs = clock.lap();
  auto counters = engine->counters();
  if (!counters)
    return stop(counters.status());
  const double cpuMs = 1e3 * static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  std::printf("compiler_ms %.2f engine_ms %.2f prepare_ms %.2f cpu_ms %.2f builds %d\n", compilerMs,
              engineMs, prepareMs, cpuMs, static_cast<int>(counters->builds));
  return 0;
}
