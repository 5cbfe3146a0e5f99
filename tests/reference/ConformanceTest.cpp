// The judge of conformance on itself: the reference, taken as an implementation, passes every case;
// an implementation with a fault does not.
#include "reference/conformance/Conformance.h"
#include "reference/Half.h"
#include "reference/conformance/RandomCases.h"
#include "reference/methods/MethodAxes.h"
#include <algorithm>
#include <cmath>
#include <fstream>
#include <gtest/gtest.h>
#include <iostream>
#include <set>
#include <sstream>

using namespace winnow;

namespace {

Result<reference::Method> axes(const std::string &method, const Spec &spec) {
  std::ifstream file(std::string(WINNOW_METHODS_DIR) + "/" + method + ".mlir");
  std::ostringstream text;
  text << file.rdbuf();
  return axesOfText(text.str(), method, spec);
}

std::vector<uint16_t> wordsOf(const reference::Gradient &gradient, Dtype dtype) {
  std::vector<uint16_t> words;
  for (double x : gradient.exact)
    words.push_back(reference::toWord(x, dtype));
  return words;
}

/// The reference's answers on the rows that the judge looks at.
Result<CaseAnswer> reference64(const ConformanceCase &test, const CaseInputs &inputs) {
  const reference::Problem &problem = inputs.problem;
  reference::Method method = *axes(test.method, test.spec);
  reference::Options options;
  options.rows = reference::sampleRows(problem, test.rows);
  CaseAnswer answer;
  auto total = static_cast<size_t>(problem.totalQ());
  size_t width = static_cast<size_t>(problem.heads) * problem.valueWidth();
  answer.ids = inputs.ids;
  if (options.rows.empty())
    return answer;
  if (!test.givenIds)
    answer.ids = reference::idsTensor(reference::select(method, problem, options), problem);
  reference::Attention attention = reference::attend(method, problem, answer.ids.data(), options);
  answer.out.assign(total * width, 0);
  answer.lse.assign(total * problem.heads, 0);
  for (size_t i = 0; i < options.rows.size(); ++i) {
    for (size_t e = 0; e < width; ++e)
      answer.out[options.rows[i] * width + e] =
          reference::toWord(attention.out[i * width + e], problem.dtype);
    for (int head = 0; head < problem.heads; ++head)
      answer.lse[head * total + options.rows[i]] =
          static_cast<float>(attention.lse[head * options.rows.size() + i]);
  }
  if (test.backward) {
    const reference::Gradients gradients =
        reference::attendBackward(method, problem, answer.ids.data(), inputs.dout.data());
    answer.dq = wordsOf(gradients.q, problem.dtype);
    answer.dk = wordsOf(gradients.k, problem.dtype);
    answer.dv = wordsOf(gradients.v, problem.dtype);
  }
  return answer;
}

/// Cases whose size is their point; the judge is the same for all.
bool isSlow(const ConformanceCase &test) {
  return std::any_of(test.sequences.begin(), test.sequences.end(),
                     [](const auto &lengths) { return lengths.second > 20000; });
}

TEST(Conformance, theReferencePassesItsOwnCases) {
  auto cases = conformanceCases();
  ASSERT_TRUE(cases) << cases.error().message;
  std::set<std::string> names;
  for (const ConformanceCase &test : *cases) {
    EXPECT_TRUE(names.insert(test.name).second) << test.name << " stands there twice";
    if (isSlow(test))
      continue;
    auto result = runCase(test, axes, reference64);
    ASSERT_TRUE(result) << test.name << ": " << result.error().message;
    EXPECT_TRUE(result->passed) << test.name << ": " << result->text;
  }
}

TEST(Conformance, faultsAreFound) {
  auto cases = conformanceCases();
  ASSERT_TRUE(cases);
  for (ConformanceCase test : *cases) {
    test.rows = 12;
    if (isSlow(test) || makeInputs(test, 1).problem.totalQ() == 0)
      continue;
    // The last head of the last row is off by a tenth: one KV head's epilogue forgotten, say.
    auto faulty = [](const ConformanceCase &inner, const CaseInputs &inputs) {
      Result<CaseAnswer> answer = reference64(inner, inputs);
      uint16_t &word = answer->out.back();
      Dtype dtype = inputs.problem.dtype;
      const double value = reference::fromWord(word, dtype);
      word = reference::toWord(value * 1.1 + std::copysign(0.1, value), dtype); // never closer
      return answer;
    };
    auto result = runCase(test, axes, faulty);
    ASSERT_TRUE(result) << test.name;
    EXPECT_FALSE(result->passed) << test.name << ": " << result->text;
  }
}

/// Gradients are looked at where a case asks for them.
TEST(Conformance, gradientsAreJudged) {
  auto cases = conformanceCases();
  ASSERT_TRUE(cases);
  auto found = std::find_if(cases->begin(), cases->end(), [](const ConformanceCase &one) {
    return one.name == "backward_lengths";
  });
  ASSERT_NE(found, cases->end());
  auto doubled = [](const ConformanceCase &inner, const CaseInputs &inputs) {
    Result<CaseAnswer> answer = reference64(inner, inputs);
    uint16_t &word = answer->dv[answer->dv.size() / 3];
    word = reference::toWord(2 * reference::fromWord(word, inner.spec.dtype) + 1, inner.spec.dtype);
    return answer;
  };
  auto result = runCase(*found, axes, doubled);
  ASSERT_TRUE(result);
  EXPECT_FALSE(result->passed) << result->text;
  EXPECT_NE(result->text.find("first: dv of token"), std::string::npos) << result->text;
  auto without = [](const ConformanceCase &inner, const CaseInputs &inputs) {
    Result<CaseAnswer> answer = reference64(inner, inputs);
    answer->dk.clear();
    return answer;
  };
  result = runCase(*found, axes, without);
  ASSERT_TRUE(result);
  EXPECT_FALSE(result->passed);
  EXPECT_NE(result->text.find("no gradients"), std::string::npos) << result->text;
}

/// A selection whose picks all count as ties is judged by its recall alone.
TEST(Conformance, recallIsAskedFor) {
  ConformanceCase test;
  auto cases = conformanceCases();
  ASSERT_TRUE(cases);
  test.name = "iid", test.data = "iid";
  test.method = std::find_if(cases->begin(), cases->end(), [](const ConformanceCase &one) {
                  return one.leastRecall > 0;
                })->method;
  test.spec.heads = 4, test.spec.kvHeads = 1, test.spec.headDim = 64, test.spec.topk = 12;
  test.spec.params = {{"local", "3"}};
  test.sequences = {{40, 2048}};
  test.leastRecall = 0.95;
  const double everythingTies = 1e9;
  auto result = runCase(test, axes, reference64, everythingTies);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_TRUE(result->passed) << result->text;
  EXPECT_EQ(result->free.expected, 40 * 8); // the first block and the last three are forced
  // One pick of each row moves to the next block, where that one was not picked.
  auto moved = [](const ConformanceCase &inner, const CaseInputs &inputs) {
    Result<CaseAnswer> answer = reference64(inner, inputs);
    for (size_t row = 0; row < answer->ids.size(); row += inner.spec.topk)
      for (int32_t *id = &answer->ids[row + 1]; id < &answer->ids[row + 8]; ++id)
        if (id[1] > id[0] + 1) {
          ++*id;
          break;
        }
    return answer;
  };
  result = runCase(test, axes, moved, everythingTies);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->selection.wrong, 0) << result->text;
  EXPECT_FALSE(result->passed) << result->text;
  EXPECT_NEAR(result->free.recall(), 7.0 / 8, 0.01);
  test.givenIds = true; // nothing was chosen by score: no recall is no pass
  result = runCase(test, axes, reference64, everythingTies);
  ASSERT_TRUE(result);
  EXPECT_FALSE(result->passed) << result->text;
}

/// A compiler that serves one head dimension and one tunable.
DrawSpace smallSpace() {
  DrawSpace space;
  space.methods = {{"a", {}}, {"b", {{"init", "1"}, {"local", "2"}}}};
  space.tunables = {{"attend_stages", {2, 3}, "attend"}};
  space.serves = [](const std::string &, const Spec &spec, const Config &config) -> Status {
    if (spec.headDim != 64 || config.attendStages == 3)
      return fail(ErrorKind::Unsupported, "not served");
    return {};
  };
  return space;
}

TEST(RandomCases, onlyWhatIsServed) {
  DrawSpace space = smallSpace();
  std::set<std::string> methods, data;
  std::set<int> stages;
  for (int i = 0; i < 50; ++i) {
    Result<DrawnProgram> program = drawProgram(space, 1, i);
    ASSERT_TRUE(program);
    EXPECT_EQ(program->spec.headDim, 64);
    EXPECT_EQ(program->spec.params.count("init"), program->method == "b");
    methods.insert(program->method);
    stages.insert(program->config.attendStages);
    ConformanceCase test = drawCase(*program, true, 1, i * kDrawsPerProgram);
    data.insert(test.data);
    for (auto [queries, keys] : test.sequences)
      EXPECT_LE(queries, keys);
    EXPECT_EQ(describe(test), describe(drawCase(*drawProgram(space, 1, i), true, 1, i * 8)));
  }
  EXPECT_EQ(methods.size(), 2u);
  EXPECT_EQ(stages, (std::set<int>{0, 2}));
  EXPECT_EQ(data.size(), 8u);
  space.serves = [](auto &&...) -> Status { return fail(ErrorKind::Unsupported, "nothing"); };
  EXPECT_FALSE(drawProgram(space, 1, 0));
  // A fault is no refusal: it stays with the draw and is found when it runs.
  space.serves = [](auto &&...) -> Status { return fail(ErrorKind::CompileFailed, "fault"); };
  EXPECT_TRUE(drawProgram(space, 1, 0));
}

TEST(RandomCases, gradientsAreDrawnOnPackedTensorsThatTheReferenceCanTakeWhole) {
  DrawSpace space = smallSpace();
  int some = 0;
  for (bool all : {false, true}) {
    space.backward = all;
    for (int i = 0; i < 40; ++i) {
      Result<DrawnProgram> program = drawProgram(space, 1, i);
      ASSERT_TRUE(program);
      const Spec &spec = program->spec;
      EXPECT_FALSE(spec.backward && spec.paged);
      EXPECT_TRUE(spec.backward || !all);
      some += spec.backward && !all;
      const ConformanceCase test = drawCase(*program, true, 1, i * kDrawsPerProgram);
      EXPECT_EQ(test.backward, spec.backward);
      int queries = 0, keys = 0;
      for (auto [q, k] : test.sequences)
        queries += q, keys += k;
      if (test.backward) {
        EXPECT_LE(queries * spec.heads, 2 * 4096) << describe(test);
        EXPECT_LE(keys, 2300) << describe(test);
      }
    }
  }
  EXPECT_GT(some, 0);
  EXPECT_LT(some, 20);
}

} // namespace
