// What kernels declare to serve, and the sentence that refuses a program outside of it. Each row of
// the kernel registry has such a declaration, and so has the CPU target. A new aspect of programs
// (a layout of keys, a mask) is a new field here: who does not declare it, does not serve it.
#pragma once
#include "runtime/program/Spec.h"
#include "llvm/ADT/ArrayRef.h"

namespace winnow {

/// All that any kernel serves. A kernel that serves less declares a shorter list.
inline constexpr Dtype kElementTypes[] = {Dtype::BF16, Dtype::FP16};
inline constexpr int kHeadDims[] = {64, 96, 128, 192, 256};
/// Rows of one byte per element are copied and swizzled by whole 64 bytes.
inline constexpr int kFp8Dims[] = {64, 128, 192, 256};
inline constexpr int kGroups[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32, 64};
inline constexpr int kBlockSizes[] = {16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
inline constexpr int kMostTopk = 256;
inline constexpr int kLongestSequence = 1 << 20; ///< keys, of programs that select

/// Lists of constants that outlive it, since nothing may be destroyed when a process ends. An empty
/// list: it makes no difference.
struct Features {
  llvm::ArrayRef<Dtype> dtypes;
  llvm::ArrayRef<int> headDims;
  llvm::ArrayRef<int> valueDims;
  llvm::ArrayRef<int> groups; ///< query heads per KV head
  llvm::ArrayRef<int> blocks; ///< keys
  int mostTopk = 0;           ///< 0: makes no difference
  /// Head and value dimensions where keys are fp8; empty: such keys are not served.
  llvm::ArrayRef<int> fp8Dims = {};
};

/// Whether `features` hold all that a program of this spec needs. Error: Unsupported, with `who`
/// declared them, the first that is missing and the nearest that is there.
Status checkServed(const std::string &who, const Features &features, const Spec &spec);

} // namespace winnow
