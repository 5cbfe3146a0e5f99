// A CUDA driver made of host memory, for tests without a GPU: a shared library with the functions
// of DriverApi.h that records what it is asked to do. Tests reach its state through fakeDriver().
#pragma once
#include "templates/Params.h"
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <map>
#include <string>
#include <vector>

struct FakeLaunch {
  std::string kernel;
  unsigned gridX, gridY, gridZ, blockX, sharedBytes;
  void *stream;
  int device; ///< of the context that was current
  Params params;
  bool early = false;       ///< allowed to start before the kernels in front of it have ended
  unsigned cluster = 1;     ///< blocks of threads of a cluster, in x
  bool cooperative = false; ///< all of its blocks of threads run at the same time
};

struct FakeDevice {
  std::string name = "Fake 80GB";
  int major = 8, minor = 0, sharedPerBlock = 163 * 1024;
};

struct FakeState {
  // What the driver pretends to be; set before Driver::open.
  int version = 13000;
  int initResult = 0;
  int clusterLimit = 8;      ///< blocks of the largest cluster
  int resident = 1;          ///< blocks of threads of a kernel that a multiprocessor has room for
  int cooperates = 1;        ///< whether cooperative launches are there
  bool refusesGrids = false; ///< whether they are refused as too large when they come
  std::vector<FakeDevice> devices = {FakeDevice{}};
  // The next call of this function fails with this code, once.
  std::map<std::string, int> failOnce;
  bool refuseImages = false;
  bool records = true; ///< launches; without, a launch returns at once

  // What happened.
  std::vector<FakeLaunch> launches;
  std::map<std::string, int> calls;                         ///< per function name
  std::map<std::pair<std::string, int>, int> dynamicShared; ///< per kernel name and device
  int liveLibraries = 0, liveAllocations = 0;
};

/// The state of the fake driver library at `path` (opened if need be).
inline FakeState &fakeDriver(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    std::fprintf(stderr, "the fake driver does not load: %s\n", dlerror());
    std::abort();
  }
  return *reinterpret_cast<FakeState *(*)()>(dlsym(library, "fakeState"))();
}
/// Forgets everything that happened and every pretence.
inline void resetFakeDriver(const char *path) {
  int libraries = fakeDriver(path).liveLibraries, allocations = fakeDriver(path).liveAllocations;
  fakeDriver(path) = FakeState();
  fakeDriver(path).liveLibraries = libraries;
  fakeDriver(path).liveAllocations = allocations;
}
