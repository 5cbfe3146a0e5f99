// The CPU target's two speed bars, at 16,384 tokens, 16 query heads, one KV head, d = 128, 32 of
// 256 blocks:
//   dense: at least 46 GFLOP/s per core (4 d operations per query head and visible key)
//   sparse: selection and attention together at least twice as fast as dense, on the same cores
// Prints both; exit code 1 when one is missed. Run it on an idle machine.
#include "compiler/driver/Compile.h"
#include "tests/compiler/cpu/CpuInputs.h"
#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <thread>

using namespace winnow;

static double seconds(const CpuProgram &program, CpuInputs &inputs, int threads) {
  double best = 1e30;
  for (int round = 0; round < 3; ++round) {
    auto begin = std::chrono::steady_clock::now();
    if (!program.run(inputs.tensors(), threads))
      return 1e30;
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

int main() {
  const int tokens = 16384,
            threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  Spec spec;
  spec.heads = 16, spec.kvHeads = 1, spec.topk = 32;
  Spec sparseSpec = spec;
  sparseSpec.params = {{"local", "17"}};
  auto dense = CpuProgram::compile(loadMethod("dense")->text, spec, "dense.mlir");
  auto sparse = CpuProgram::compile(loadMethod("infllm_v2")->text, sparseSpec, "infllm_v2.mlir");
  if (!dense || !sparse) {
    fmt::print(stderr, "{}\n", (dense ? sparse : dense).error().message);
    return 4;
  }
  CpuInputs inputs(spec, {tokens}, 1);
  double denseTime = seconds(**dense, inputs, threads),
         sparseTime = seconds(**sparse, inputs, threads);
  double operations = 4.0 * spec.headDim * spec.heads * (0.5 * tokens * (tokens + 1.0));
  double rate = operations / denseTime / threads * 1e-9;
  fmt::print("dense   {:.2f} s, {:.1f} GFLOP/s per core on {} threads (bar: 46)\n", denseTime, rate,
             threads);
  fmt::print("sparse  {:.2f} s, {:.2f} times as fast (bar: 2)\n", sparseTime,
             denseTime / sparseTime);
  return rate >= 46 && denseTime >= 2 * sparseTime ? 0 : 1;
}
