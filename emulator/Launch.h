// Kernels of the emulated GPU: shared objects that the compiler has made of printed text, and their
// launches.
#pragma once
#include "emulator/Cluster.h"
#include "templates/Params.h"
#include <string>

namespace winnow::emulator {

/// A kernel of a loaded object.
struct LoadedKernel {
  void *object = nullptr; ///< of dlopen
  std::string file;       ///< that was opened
  std::string name;
  void *entry = nullptr;
  unsigned char *shared = nullptr;
  const char *constants = nullptr, *constantsEnd = nullptr; ///< read-only parts of the object
  int sharedBytes = 0;              ///< that a block may use, as set by the launcher
  bool allowsLargeClusters = false; ///< of more than 8 blocks, as set by the launcher
};

/// Loads an object from memory. Returns what is wrong, or "".
std::string loadObject(const std::string &bytes, LoadedKernel &kernel);
/// Finds the kernel `name` in a loaded object.
std::string findKernel(LoadedKernel &kernel, const std::string &name);
void unload(LoadedKernel &kernel);

/// Runs every cluster of blocks, one after the other, in an order that `seed` decides. The grid is
/// a multiple of the cluster. Returns the fault in words, with lines of the printed text, or "".
std::string launch(const LoadedKernel &kernel, const LaunchShape &shape, const Params &params,
                   uint64_t seed);

} // namespace winnow::emulator
