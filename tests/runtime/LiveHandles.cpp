// Ends with an engine and a program alive, one of them owned by an exit handler, on a driver that
// is already gone by then (F34). Usage: live_handles FAKE_DRIVER
#include "TestSupport.h"
#include "runtime/Engine.h"
#include <cstdio>

using namespace winnow;

namespace {
std::unique_ptr<Engine> engine;                         // destroyed by an exit handler
std::shared_ptr<const LoadedProgram> *leaked = nullptr; // never destroyed
} // namespace

int main(int, char **argv) {
  EngineOptions options;
  options.cache.directory = "";
  options.hook.key = [](const ProgramRequest &) {
    return Result<std::string>(test::sampleImage().key);
  };
  options.hook.build = [](const ProgramRequest &) {
    return Result<ProgramImage>(test::sampleImage());
  };
  options.cache.warn = [](const std::string &) {};
  options.driverPath = argv[1];
  engine = std::move(*Engine::create(std::move(options)));
  Result<Engine::Prepared> prepared = engine->prepare(ProgramRequest(), 0);
  if (!prepared)
    return 1;
  leaked = new std::shared_ptr<const LoadedProgram>(prepared->program);
  std::puts("live");
  return 0;
}
