// Random tensors for tests of the CPU target: one ragged batch, bf16 words, deterministic.
#pragma once
#include "compiler/cpu/CpuProgram.h"
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace winnow {

struct CpuInputs {
  CpuInputs(const Spec &spec, const std::vector<int32_t> &lengths, int selectHeads) {
    cu = {0};
    for (int32_t length : lengths)
      cu.push_back(cu.back() + length);
    auto tokens = static_cast<size_t>(cu.back());
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    auto make = [&](size_t count, float deviation) {
      std::vector<uint16_t> words(count);
      for (uint16_t &word : words) {
        float value = normal(random) * deviation;
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof(bits));
        word = static_cast<uint16_t>(bits >> 16);
      }
      return words;
    };
    q = make(tokens * spec.heads * spec.headDim, 1.5f);
    k = make(tokens * spec.kvHeads * spec.headDim, 1);
    v = make(tokens * spec.kvHeads * spec.valueWidth(), 1);
    out.assign(tokens * spec.heads * spec.valueWidth(), 0xffff);
    lse.assign(tokens * spec.heads, std::nanf(""));
    ids.assign(tokens * std::max(1, selectHeads) * spec.topk, 0x7f7f7f7f);
  }
  CpuTensors tensors() {
    return {q.data(),   k.data(),   v.data(),
            out.data(), lse.data(), ids.data(),
            cu.data(),  cu.data(),  static_cast<int>(cu.size()) - 1};
  }

  std::vector<uint16_t> q, k, v, out;
  std::vector<float> lse;
  std::vector<int32_t> ids, cu;
};

} // namespace winnow
