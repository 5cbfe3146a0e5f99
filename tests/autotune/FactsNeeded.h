// Which facts of its kernels a prediction reads, for tests of the models.
#pragma once
#include "autotune/model/PerformanceModel.h"
#include <gtest/gtest.h>

namespace winnow {

/// Takes each fact away in turn: the prediction does not depend on it, or ends with a sentence that
/// names it. How many do the latter.
inline int factsNeeded(const ModelWorkload &workload, const Candidate &whole) {
  const DeviceProfile &gpu = **findProfile("a100");
  const double before = *predictMs(workload, whole, gpu);
  int needed = 0;
  for (const FactField &field : factFields()) {
    Candidate less = whole;
    for (Kernel &kernel : less.kernels)
      (kernel.facts.*field.member).reset();
    Result<double> ms = predictMs(workload, less, gpu);
    if (ms) {
      EXPECT_EQ(*ms, before) << field.name;
      continue;
    }
    needed++;
    EXPECT_EQ(ms.error().kind, ErrorKind::Unsupported);
    EXPECT_NE(ms.error().message.find(std::string("lacks the fact '") + field.name + "'"),
              std::string::npos)
        << ms.error().message;
  }
  return needed;
}

} // namespace winnow
