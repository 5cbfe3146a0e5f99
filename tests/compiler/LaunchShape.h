// A launch of equal sequences: the values that it evaluates a program's formulas with.
#pragma once
#include "runtime/program/Formula.h"
#include "runtime/program/ProgramImage.h"
#include <algorithm>
#include <gtest/gtest.h>

namespace winnow {

/// -1, and a failed test, where the formula cannot be read or has no value.
inline int64_t valueOf(const std::string &formula, const Variables &launch) {
  Result<Formula> parsed = Formula::parse(formula, kLastVariable);
  EXPECT_TRUE(parsed) << formula;
  return parsed ? parsed->evaluate(launch).value_or(-1) : -1;
}

/// `batch` sequences of `maxQ` query tokens and `maxK` keys on 132 multiprocessors; `rows`: the
/// host gives the summaries that it keeps; `clusterLimit`: blocks of the largest cluster.
inline Variables shapeOf(const ProgramImage &image, int batch, int maxQ, int maxK, bool rows = true,
                         int clusterLimit = 0) {
  Variables launch;
  launch[Variable::ClusterLimit] = clusterLimit;
  launch[Variable::SmCount] = 132;
  launch[Variable::Batch] = batch;
  launch[Variable::TotalQ] = int64_t(batch) * maxQ;
  launch[Variable::TotalK] = int64_t(batch) * maxK;
  launch[Variable::MaxQ] = maxQ;
  launch[Variable::MaxK] = maxK;
  auto become = [&](Variable variable, const std::string &formula) {
    if (!formula.empty())
      launch[variable] = valueOf(formula, launch);
  };
  become(Variable::DenseLength, image.denseLength);
  become(Variable::Parts, image.parts);
  become(Variable::Cluster, image.cluster);
  become(Variable::Step, image.step);
  become(Variable::ScoreStride, image.scoreStride);
  become(Variable::ChunkTokens, image.chunkTokens);
  launch[Variable::TokenCount] = std::min(launch[Variable::TotalQ], launch[Variable::ChunkTokens]);
  launch[Variable::Rows] = rows;
  return launch;
}

} // namespace winnow
