// Times of prepare with a warm cache, the real key and a driver that does nothing: the first in
// this process, and equal requests after it. Usage: warm_prepare CACHE DRIVER; prints "first_us N
// again_us N origin". Run in fresh processes by WarmPrepareTest.cpp and by hand.
#include "compiler/driver/CompileHook.h"
#include "runtime/Engine.h"
#include <chrono>
#include <cstdio>

using namespace winnow;

static double microsecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin)
      .count();
}

int main(int argc, char **argv) {
  if (argc != 3)
    return 2;
  EngineOptions options;
  options.cache.directory = argv[1];
  options.driverPath = argv[2];
  options.hook = compilerHook();
  Result<std::unique_ptr<Engine>> engine = Engine::create(std::move(options));
  if (!engine) {
    std::fprintf(stderr, "%s\n", engine.error().message.c_str());
    return 1;
  }
  ProgramRequest request;
  request.method = "infllm_v2";
  auto begin = std::chrono::steady_clock::now();
  Result<Engine::Prepared> first = (*engine)->prepare(request, 0);
  const double firstUs = microsecondsSince(begin);
  if (!first) {
    std::fprintf(stderr, "%s\n", first.error().message.c_str());
    return 1;
  }
  constexpr int kRepeats = 1000;
  begin = std::chrono::steady_clock::now();
  for (int i = 0; i < kRepeats; ++i)
    if (!(*engine)->prepare(request, 0))
      return 1;
  std::printf("first_us %.1f again_us %.2f %s\n", firstUs, microsecondsSince(begin) / kRepeats,
              name(first->origin));
}
