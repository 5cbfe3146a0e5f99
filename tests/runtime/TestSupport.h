// What several tests of the runtime need: a temporary directory, child processes, and program
// images with made-up code.
#pragma once
#include "FakeDriver.h"
#include "runtime/cache/Cache.h"
#include "runtime/cache/Digest.h"
#include "runtime/program/ImageFormat.h"
#include <filesystem>
#include <functional>
#include <gtest/gtest.h>
#include <string>
#include <vector>

namespace winnow::test {

/// A fresh directory (mode 0755, reachable for other users), removed with everything in it.
class TempDir {
public:
  TempDir();
  ~TempDir();
  std::string path;
  std::string operator/(const std::string &name) const { return path + "/" + name; }
};

/// Forks, runs `body` and exits with its value (255 on an exception). The parent gets the raw wait
/// status.
int waitFor(pid_t child);
pid_t startChild(const std::function<int()> &body);
inline int runChild(const std::function<int()> &body) { return waitFor(startChild(body)); }
bool exitedWith(int waitStatus, int code);
/// Runs `body` in a child as a user without privileges (as this user, where it has none anyway).
int runUnprivileged(const std::function<int()> &body);

/// A 64-byte ELF header, then "kernel:NAME" and `filler` bytes: what the fake driver loads.
std::string fakeCubin(const std::string &kernel, size_t filler = 100);
/// A program with a select phase in chunks and an attend kernel. `salt` makes distinct keys.
ProgramImage sampleImage(const std::string &salt = "");
/// Equal in every field that is stored.
bool sameImage(const ProgramImage &a, const ProgramImage &b);

/// Cache options that collect warnings into `warnings`.
CacheOptions cacheAt(const std::string &directory, std::vector<std::string> *warnings = nullptr);
std::vector<std::string> listDirectory(const std::string &path);
/// As listDirectory, without the file that holds the build locks.
std::vector<std::string> listCache(const std::string &path);
void writeBytes(const std::string &path, const std::string &bytes);
std::string readBytes(const std::string &path);

} // namespace winnow::test
