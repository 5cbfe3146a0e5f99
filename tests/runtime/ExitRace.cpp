// Ends by exit() while its threads prepare, and prepares once more in an exit handler that runs
// after all others (F34). Usage: exit_race FAKE_DRIVER MILLISECONDS
#include "CApiFixture.h"
#include <cstdlib>
#include <thread>
#include <unistd.h>

using namespace winnow;
using namespace winnow::test;

namespace {

winnow_engine *engine = nullptr;

winnow_status prepare(const std::string &method) {
  winnow_spec s{};
  s.struct_size = sizeof(s);
  s.method = method.c_str();
  s.arch = "sm_80";
  s.heads = 32;
  s.kv_heads = 2;
  winnow_program *program = nullptr;
  winnow_status status = winnow_prepare(engine, &s, 0, &program, nullptr);
  winnow_program_destroy(program);
  return status;
}

/// The driver is gone by now, which is one sentence.
void prepareLate() {
  if (prepare("late") != WINNOW_DEVICE_FAILED || !winnow_last_error())
    _exit(3);
}

} // namespace

int main(int, char **argv) {
  std::atexit(prepareLate); // registered first: runs last
  auto *compiler = new SampleCompiler;
  auto *hook = new winnow_compiler(compiler->interface());
  winnow_engine_options options{};
  options.struct_size = sizeof(options);
  options.cache_dir = "";
  options.compiler = hook;
  options.driver_path = argv[1];
  options.log = [](void *, const char *) {};
  if (winnow_engine_create(&options, &engine) != WINNOW_OK)
    return 2;
  for (int t = 0; t < 8; ++t)
    std::thread([t] {
      for (int i = 0;; ++i)
        prepare(std::to_string(t) + "-" + std::to_string(i));
    }).detach();
  usleep(static_cast<useconds_t>(1000 * std::strtol(argv[2], nullptr, 10)));
  std::exit(0);
}
