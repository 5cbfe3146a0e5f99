// A compiled program: cubins, launch recipe and metadata; all that running needs. The compiler
// makes it, the cache stores it, the launcher runs it. Serialised form: see Cache.h.
#pragma once
#include "runtime/cache/Digest.h"
#include "runtime/program/KernelFacts.h"
#include "runtime/program/TensorLayout.h"
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace winnow {

/// One kernel of a program. Formulas (see Formula.h) are evaluated per launch over the shape
/// variables sm_count and cluster_limit (of the GPU), batch, total_q, total_k, max_q, max_k,
/// token_count (tokens of the current chunk).
struct Kernel {
  std::string name; ///< entry point in the cubin, e.g. "attend"
  std::string step; ///< "append", "summarize", "score", "top_k", "rescore", "attend", "merge" or
                    ///< "backward"
  std::string when; ///< formula; launched only where it is nonzero ("1" = always)
  std::string gridX, gridY;
  /// Runs in thread block clusters of "cluster" neighbours in x, which reach each other's shared
  /// memory.
  bool inClusters = false;
  /// All of its blocks of threads run at the same time: launched cooperatively.
  bool cooperative = false;
  int blockThreads = 0;
  int sharedBytes = 0;   ///< dynamic shared memory, as planned by the compiler
  bool perChunk = false; ///< launched once per chunk of tokens: of all of them (score and top_k),
                         ///< or of gradients of each segment's
  /// Started while the kernels in front of it in the launch are running, for whom it waits by
  /// itself (wait_earlier_kernels): programmatic dependent launch, of targets that have it.
  bool early = false;
  KernelFacts facts; ///< of the builder; no launch depends on them
  // Read back from the cubin by the compiler:
  int registers = 0, spillBytes = 0, staticSharedBytes = 0;
  double compileMs = 0;
  std::string cubin;  ///< ELF bytes
  std::string source; ///< the CUDA C++ text it was compiled from
};

/// Whether a kernel belongs to attention: of the phases of a launch and of tuning, "attend", not
/// "select" or "backward".
inline bool attends(const Kernel &kernel) {
  return kernel.step == "attend" || kernel.step == "merge";
}

/// Whether it makes gradients, in launches of its own; they are a phase of tuning, too.
inline bool isBackward(const Kernel &kernel) { return kernel.step == "backward"; }

/// The phase of tuning that a kernel belongs to, beside decode, which has all.
inline std::string_view tunedPhase(const Kernel &kernel) {
  return attends(kernel) ? "attend" : isBackward(kernel) ? "backward" : "select";
}

/// A workspace buffer, Params::buffer[i] for the i-th entry.
struct Buffer {
  std::string name;
  std::string bytes; ///< formula; may use chunk_tokens
};

/// A tensor map, Params::map[i] for the i-th entry: a view of a tensor as the bulk tensor copies of
/// Hopper see it. Elements are the program's 16-bit type, boxes land in shared memory with the
/// 128-byte swizzle, and what lies outside the extents arrives as zero.
/// Of programs of paged tensors the strides are the launch's, and a map of "k" or "v" has the
/// dimensions elements, heads, tokens of a page and pages, whose last two extents are the launch's
/// too; its box brings box[2] tokens or as many less as pages need (LoadedProgram::boxRows).
struct TensorMapRecipe {
  std::string tensor;               ///< "q", "k" or "v"; of a launch of gradients also "dout"
  std::vector<std::string> extents; ///< formulas, innermost dimension first: 2 to 5
  std::vector<int64_t> strides;     ///< bytes between elements of dimension 1, 2, ...
  std::vector<int> box;             ///< elements of one copy, per dimension
};

struct ProgramImage {
  std::string method;         ///< the method's symbol, for people
  std::string key;            ///< digest that names this image in the cache
  KeyIngredients ingredients; ///< what the key was made of; empty where that was not written down
  std::string arch;           ///< Target::arch
  Spec spec;                  ///< with every default filled in, but for params: those that were set
  std::map<std::string, std::string>
      defaults;  ///< what the method declares of its parameters; empty in files of older builds
  Config config; ///< with every default filled in
  int selectHeads = 0;     ///< heads of the ids tensor; 0 = the method selects nothing (dense)
  std::string denseLength; ///< formula of Params::dense_length over batch and max_q; empty where
                           ///< dense_len is a number
  std::string parts;       ///< formula of Params::parts; empty where no kernel reads it
  std::string cluster;     ///< formula of the variable "cluster"; empty: 0
  std::string step;        ///< formula of the variable "step"; empty: 0
  std::string scoreStride; ///< formula of Params::score_stride
  std::string chunkTokens; ///< formula: tokens per selection chunk
  /// Formula: tokens of each segment per chunk of a launch of gradients; empty: all.
  std::string backwardChunkTokens;
  std::vector<Buffer> buffers;
  std::vector<Buffer> backwardBuffers; ///< in their place in a launch of gradients
  std::vector<TensorMapRecipe> tensorMaps;
  std::vector<TensorMapRecipe> backwardMaps; ///< in their place in a launch of gradients
  /// Those that a host can keep, Params::rows[i] for the i-th entry; none where it can keep none.
  std::vector<SummaryShape> summaries;
  std::vector<Kernel> kernels; ///< in launch order
  double mlirMs = 0;           ///< time spent in MLIR when this image was built
};

} // namespace winnow
