// What kernels declare to serve, and the sentence that refuses a program outside of it. Each row of
// the kernel registry has such a declaration, and so has the CPU target. A new aspect of programs
// (a layout of keys, a mask) is a new field here: who does not declare it, does not serve it.
#pragma once
#include "runtime/program/Spec.h"
#include <vector>

namespace winnow {

struct Features {
  std::vector<Dtype> dtypes;
  std::vector<int>
      headDims; ///< of this list and the next ones: empty, where it makes no difference
  std::vector<int> valueDims;
  std::vector<int> groups; ///< query heads per KV head
  std::vector<int> blocks; ///< keys
  int mostTopk = 0;        ///< 0: makes no difference
};

/// Whether `features` hold all that a program of this spec needs. Error: Unsupported, with `who`
/// declared them, the first that is missing and the nearest that is there.
Status checkServed(const std::string &who, const Features &features, const Spec &spec);

} // namespace winnow
