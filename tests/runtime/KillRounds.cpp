// Writers killed at random times: no entry is ever corrupt and nothing that was published is lost
// (F03, F04); nor do their locks outlive them (F07). Usage: kill_rounds [ROUNDS [SEED]]; by hand
// with 1000, in CTest with fewer. Ends with status 1 at the first fault.
#include "TestSupport.h"
#include "runtime/device/KernelStore.h"
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <poll.h>
#include <random>
#include <sys/wait.h>
#include <unistd.h>

using namespace winnow;
using namespace winnow::test;

namespace {

/// A program of some 50 KB that zstd cannot shrink: publishing it takes several writes' time.
ProgramImage bulkyImage(const std::string &salt) {
  ProgramImage image = sampleImage(salt);
  std::mt19937 random(static_cast<unsigned>(std::hash<std::string>()(salt)));
  for (int i = 0; i < 50000; ++i)
    image.kernels[0].source += static_cast<char>(random());
  return image;
}

/// Publishes programs until it is killed, and tells each key once it is published. Two writers of a
/// round want the same programs.
[[noreturn]] void publishForEver(const std::string &directory, long round, int report) {
  KernelStore store(
      cacheAt(directory),
      {[](const ProgramRequest &r) { return Result<std::string>(sampleImage(r.method).key); },
       [](const ProgramRequest &r) { return Result<ProgramImage>(bulkyImage(r.method)); }});
  for (int i = 0;; ++i) {
    ProgramRequest request;
    request.method = std::to_string(round) + "." + std::to_string(i);
    Result<KernelStore::Found> found = store.prepare(request);
    if (!found || write(report, found->image->key.data(), 64) != 64)
      _exit(1);
  }
}

/// The keys that writers told before they died.
std::vector<std::string> killedRound(const std::string &directory, long round,
                                     unsigned microseconds) {
  int report[2];
  if (pipe(report) != 0)
    std::abort();
  std::vector<pid_t> writers;
  for (int i = 0; i < 2; ++i)
    writers.push_back(startChild([&]() -> int { publishForEver(directory, round, report[1]); }));
  close(report[1]);
  if (pollfd first{report[0], POLLIN, 0}; round % 2 == 0)
    poll(&first, 1, 10000); // half of them get to publish on any machine, however slow
  usleep(microseconds);
  for (pid_t writer : writers)
    kill(writer, SIGKILL);
  for (pid_t writer : writers)
    waitFor(writer);
  std::string told;
  char buffer[4096];
  for (ssize_t got; (got = read(report[0], buffer, sizeof(buffer))) > 0;)
    told.append(buffer, static_cast<size_t>(got));
  close(report[0]);
  std::vector<std::string> keys;
  for (size_t at = 0; at + 64 <= told.size(); at += 64)
    keys.push_back(told.substr(at, 64));
  return keys;
}

} // namespace

int main(int argc, char **argv) {
  const long rounds = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 100;
  std::mt19937 random(argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1);
  TempDir dir;
  std::vector<std::string> warnings;
  Cache cache(cacheAt(dir.path, &warnings));
  size_t published = 0, temporaries = 0, unheard = 0;
  for (long round = 0; round < rounds; ++round) {
    std::set<std::string> told;
    for (const std::string &key : killedRound(dir.path, round, random() % 20000))
      told.insert(key);
    for (const std::string &key : told)
      if (!cache.load(key)) {
        std::printf("round %ld: published, but lost: %s\n", round, key.c_str());
        return 1;
      }
    size_t entries = 0;
    for (const Cache::Entry &entry : cache.entries()) {
      ++entries;
      if (Result<ProgramImage> image = cache.inspect(entry); !image) {
        std::printf("round %ld: corrupt: %s\n", round, image.error().message.c_str());
        return 1;
      }
    }
    published += told.size();
    unheard += entries - told.size(); // killed between the rename and the report
    for (const std::string &name : listDirectory(dir.path)) {
      temporaries += isTemporaryName(name);
      if (name != ".lock")
        unlink((dir / name).c_str());
    }
  }
  for (const std::string &warning : warnings)
    std::printf("warning: %s\n", warning.c_str());
  std::printf("%ld rounds: %zu programs published, none lost, none corrupt; %zu published and not "
              "reported, %zu temporaries left\n",
              rounds, published, unheard, temporaries);
  return warnings.empty() && published > 0 ? 0 : 1;
}
