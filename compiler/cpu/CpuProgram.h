// The CPU target: a specialised method lowered through linalg, scf and vector to LLVM and run by
// ORC, threads over tokens. It serves machines without a GPU and checks the GPU path; same
// mathematics, same tie rule.
#pragma once
#include "runtime/Error.h"
#include "runtime/program/TensorLayout.h"
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace winnow {

/// Host tensors of one call; layouts as in templates/Params.h, all in host memory. bf16 / fp16 as
/// raw 16-bit words, fp8 as bytes. A layout is taken for any program.
struct CpuTensors {
  const uint16_t *q;
  const void *k, *v; ///< 16-bit words, or bytes where the spec says fp8
  uint16_t *out;     ///< may be null: selection only
  float *lse;        ///< may be null
  int32_t *ids;      ///< [select_heads, total_q, topk]; written, or read when `idsGiven`
  const int32_t *cuQ, *cuK;
  int batch = 1;
  bool idsGiven = false;
  TensorLayout layout = {};
  /// The summaries that the host keeps, one for each of the method's, or none. Rows of new keys are
  /// appended before the selection, unless ids are given.
  uint16_t *rows[kMostRows] = {};
  bool appendOnly = false; ///< nothing but that: needs neither q nor ids
  /// [kv_heads] what turns stored keys and values into true ones, where they are fp8; null: 1.
  const float *kScale = nullptr, *vScale = nullptr;
  int maxK = 0; ///< an upper bound of the keys of a sequence; 0: those of the longest
};

/// What a launch of gradients has beside the tensors of its attention, of a packed program; all as
/// raw 16-bit words in host memory.
struct CpuGradients {
  const uint16_t *dout;   ///< like out
  uint16_t *dq, *dk, *dv; ///< like q, k and v
};

class CpuProgram {
public:
  virtual ~CpuProgram() = default;
  /// `methodText` is MLIR text of one select.method, `file` its name in messages; specialises,
  /// lowers and JIT-compiles it for this host.
  static Result<std::unique_ptr<CpuProgram>> compile(const std::string &methodText,
                                                     const Spec &spec, const std::string &file);
  /// Runs on `threads` threads (0 = all cores). `progress(done in 0..1)` is called from one thread,
  /// now and then.
  virtual Status run(const CpuTensors &tensors, int threads,
                     const std::function<void(double)> &progress = {}) const = 0;
  /// Gradients of attention over `ids`, from its `out` and `lse`, which are read here; of a program
  /// whose spec says backward. The same on any number of threads, bit for bit.
  virtual Status backward(const CpuTensors &tensors, const CpuGradients &gradients,
                          int threads) const = 0;
  /// Sequences with fewer keys attend to every key in a call of this shape; -1: none. What a
  /// program for GPUs says of the same launch.
  virtual Result<int> denseLength(int batch, int maxQ) const = 0;
  /// As ProgramImage::denseLength: empty where dense_len is not `auto`. Lives as long as this.
  virtual const std::string &denseFormula() const = 0;
  virtual int selectHeads() const = 0; ///< heads of the ids tensor; 0 for a dense method
  /// Those that a host may keep as rows, of a spec that is paged.
  virtual std::vector<SummaryShape> summaries() const = 0;
};

} // namespace winnow
