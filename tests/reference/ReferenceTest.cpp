// The judge judged: the fp64 reference against hand-computed cases, its own properties, and the
// recorded answers of the published implementation, which it must explain before it may judge
// anything else.
#include "reference/Half.h"
#include "reference/recorded/Recorded.h"
#include <cmath>
#include <gtest/gtest.h>

using namespace winnow;
using namespace winnow::reference;

namespace {

/// The axes that all tests here use: those of the recorded cases, with the case's forced blocks.
Result<Method> axesOf(const std::string &, const Spec &spec) {
  Method method;
  method.init = std::stoi(spec.params.at("init"));
  method.local = std::stoi(spec.params.at("local"));
  return method;
}

/// The reference as an implementation, on the rows that will be compared.
CaseAnswer answerOf(const Method &method, const Problem &problem, const std::vector<int> &rows) {
  Options options;
  options.rows = rows;
  CaseAnswer answer;
  answer.ids = idsTensor(select(method, problem, options), problem);
  Attention attention = attend(method, problem, answer.ids.data(), options);
  size_t width = static_cast<size_t>(problem.heads) * problem.valueWidth();
  answer.out.resize(problem.totalQ() * width);
  answer.lse.resize(static_cast<size_t>(problem.totalQ()) * problem.heads);
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t e = 0; e < width; ++e)
      answer.out[rows[i] * width + e] = toWord(attention.out[i * width + e], problem.dtype);
    for (int head = 0; head < problem.heads; ++head)
      answer.lse[static_cast<size_t>(head) * problem.totalQ() + rows[i]] =
          static_cast<float>(attention.lse[head * rows.size() + i]);
  }
  return answer;
}

/// Those of NSA's selection branch.
Result<Method> overlapAxesOf(const std::string &name, const Spec &spec) {
  Method method = *axesOf(name, spec);
  method.lse = Lse::Exact;
  method.pool = Pool::Overlap;
  method.window = std::stoi(spec.params.at("window"));
  method.stride = std::stoi(spec.params.at("stride"));
  return method;
}

/// NSA's without the weights: each overlapping window once.
Result<Method> unweightedAxesOf(const std::string &name, const Spec &spec) {
  Method method = *overlapAxesOf(name, spec);
  method.pool = Pool::Sum;
  return method;
}

void explainRecorded(const std::string &directory, const AxesReader &axes, bool right = true) {
  auto cases = loadRecorded(directory, "");
  ASSERT_TRUE(cases) << cases.error().message;
  ASSERT_FALSE(cases->empty());
  for (const RecordedCase &recorded : *cases) {
    auto result =
        runRecorded(recorded, axes, [&](const ConformanceCase &test, const CaseInputs &inputs) {
          return Result<CaseAnswer>(
              answerOf(*axes("", test.spec), inputs.problem, recorded.expected.rows));
        });
    ASSERT_TRUE(result);
    EXPECT_EQ(result->passed, right) << recorded.test.name << ": " << result->text;
    std::cout << recorded.test.name << ": " << result->text << "\n";
  }
}

TEST(Reference, explainsRecordedAnswers) { explainRecorded(WINNOW_RECORDED_DIR, axesOf); }

TEST(Reference, explainsNsaByThePaper) {
  explainRecorded(WINNOW_RECORDED_DIR "/nsa", overlapAxesOf);
  explainRecorded(WINNOW_RECORDED_DIR "/nsa", unweightedAxesOf, false);
}

ConformanceCase smallCase() {
  ConformanceCase test;
  test.spec.heads = 4;
  test.spec.kvHeads = 2;
  test.spec.headDim = 64;
  test.spec.topk = 6;
  test.spec.params = {{"init", "1"}, {"local", "2"}};
  test.sequences = {{500, 500}, {3, 400}};
  return test;
}

TEST(Reference, everythingSelectedEqualsDense) {
  ConformanceCase test = smallCase();
  test.spec.topk = 8;
  CaseInputs inputs = makeInputs(test, 2);
  Method sparse = *axesOf("", test.spec), dense;
  dense.selects = false;
  std::vector<int32_t> ids = idsTensor(select(sparse, inputs.problem), inputs.problem);
  Attention a = attend(sparse, inputs.problem, ids.data()),
            b = attend(dense, inputs.problem, nullptr);
  EXPECT_EQ(a.out, b.out);
  EXPECT_EQ(a.lse, b.lse);
}

TEST(Reference, forcedBlocksAndBudget) {
  ConformanceCase test = smallCase();
  CaseInputs inputs = makeInputs(test, 2);
  Method method = *axesOf("", test.spec);
  Selection selection = select(method, inputs.problem);
  for (size_t i = 0; i < selection.rows.size(); ++i) {
    int own = placeOf(inputs.problem, selection.rows[i]).position / 64;
    const RowSelection &row = selection.at(1, i);
    ASSERT_EQ(row.ids.size(), static_cast<size_t>(std::min(6, own + 1)));
    EXPECT_EQ(row.ids.front(), 0);
    EXPECT_EQ(row.ids.back(), own);
    if (own > 0) {
      EXPECT_EQ(row.ids[row.ids.size() - 2], own - 1);
    }
  }
}

TEST(Reference, poisonDoesNotLeak) {
  ConformanceCase clean = smallCase(), poisoned = smallCase();
  poisoned.data = "poison";
  CaseInputs inputs = makeInputs(poisoned, 2);
  Method method = *axesOf("", clean.spec);
  std::vector<int32_t> ids = idsTensor(select(method, inputs.problem), inputs.problem);
  for (double x : attend(method, inputs.problem, ids.data()).out)
    ASSERT_TRUE(std::isfinite(x));
}

TEST(Reference, equalScoresGoToSmallerIds) {
  ConformanceCase test = smallCase();
  test.data = "ties";
  test.sequences = {{900, 900}};
  CaseInputs inputs = makeInputs(test, 2);
  Method method = *axesOf("", test.spec);
  Selection selection = select(method, inputs.problem);
  EXPECT_EQ(selection.at(0, 899).ids, (std::vector<int32_t>{0, 1, 2, 3, 13, 14}));
}

// Three blocks whose scores lie beyond fp32's range (e^102, e^142, e^82 above the normaliser): the
// largest wins, and a judge must not call them equal.
TEST(Reference, scoresBeyondFp32OrderByTheirLogarithms) {
  constexpr int tokens = 1024, dim = 64;
  std::vector<uint16_t> q(dim, toBf16(0)), k(tokens * dim, toBf16(0));
  q[0] = toBf16(64);
  for (auto [block, logit] : {std::pair<int, float>{3, 150.f}, {6, 190.f}, {11, 130.f}})
    for (int t = 64 * block + 16; t < 64 * block + 48; ++t)
      k[t * dim] = toBf16(logit / 8);
  Problem problem;
  problem.heads = problem.kvHeads = 1, problem.headDim = dim, problem.block = 64, problem.topk = 2;
  problem.q = q.data(), problem.k = problem.v = k.data();
  problem.cuQ = {0, 1}, problem.cuK = {0, tokens};
  Method method;
  method.init = 0, method.local = 1;
  Selection selection = select(method, problem);
  EXPECT_EQ(selection.at(0, 0).ids, (std::vector<int32_t>{6, 15}));
  const int32_t right[] = {6, 15}, wrong[] = {3, 15};
  EXPECT_EQ(compareSelection(method, problem, selection, right).wrong, 0);
  EXPECT_GT(compareSelection(method, problem, selection, wrong).wrong, 0);
}

// A judge that cannot say no is worth nothing: each kind of fault must be found.
TEST(Comparison, findsFaults) {
  ConformanceCase test = smallCase();
  test.sequences = {{700, 700}};
  CaseInputs inputs = makeInputs(test, 2);
  Method method = *axesOf("", test.spec);
  Selection expected = select(method, inputs.problem);
  std::vector<int32_t> good = idsTensor(expected, inputs.problem);
  EXPECT_EQ(compareSelection(method, inputs.problem, expected, good.data()).wrong, 0);
  auto wrongAfter = [&](auto &&change) {
    std::vector<int32_t> ids = good;
    change(&ids[699 * 6]);
    return compareSelection(method, inputs.problem, expected, ids.data()).wrong;
  };
  EXPECT_GT(wrongAfter([](int32_t *row) { row[5] = -1; }), 0);
  EXPECT_GT(wrongAfter([](int32_t *row) { std::swap(row[0], row[1]); }), 0);
  EXPECT_GT(wrongAfter([](int32_t *row) { row[5] = 11; }), 0);
  EXPECT_GT(wrongAfter([](int32_t *row) { row[5] = row[4]; }), 0);
  EXPECT_GT(wrongAfter([&](int32_t *row) { // the best chosen block gives way to the worst one
              std::vector<double> scores = expected.at(0, 699).scores;
              int worst = 1;
              for (int b = 1; b < 9; ++b)
                worst = scores[b] < scores[worst] ? b : worst;
              std::vector<int32_t> ids(row, row + 6);
              int best = 1;
              for (int i = 1; i < 4; ++i)
                best = scores[ids[i]] > scores[ids[best]] ? i : best;
              ids[best] = worst;
              std::sort(ids.begin(), ids.end());
              std::copy(ids.begin(), ids.end(), row);
            }),
            0);

  CaseAnswer answer = answerOf(method, inputs.problem, sampleRows(inputs.problem, 700));
  Attention attention = attend(method, inputs.problem, good.data());
  EXPECT_TRUE(
      compareOutput(inputs.problem, attention, answer.out.data(), answer.lse.data()).withinBars());
  std::vector<uint16_t> off = answer.out;
  off[12345] = toBf16(fromBf16(off[12345]) + 0.1f);
  EXPECT_FALSE(
      compareOutput(inputs.problem, attention, off.data(), answer.lse.data()).withinBars());
  off[12345] = 0x7fc0;
  EXPECT_FALSE(
      compareOutput(inputs.problem, attention, off.data(), answer.lse.data()).withinBars());
  std::vector<float> lse = answer.lse;
  lse[77] += 0.001f;
  EXPECT_FALSE(
      compareOutput(inputs.problem, attention, answer.out.data(), lse.data()).withinBars());
}

/// The sum of dout * out: what the gradients are of.
double lossOf(const Method &method, const Problem &problem, const std::vector<int32_t> &ids,
              const std::vector<uint16_t> &dout) {
  const Attention attention = attend(method, problem, ids.data());
  double loss = 0;
  for (size_t i = 0; i < dout.size(); ++i)
    loss += fromWord(dout[i], problem.dtype) * attention.out[i];
  return loss;
}

/// A case that finite differences are taken of: fp16, whose steps are small.
ConformanceCase differencesCase() {
  ConformanceCase test = smallCase();
  test.spec.dtype = Dtype::FP16;
  test.spec.topk = 3;
  test.spec.block = 16;
  test.sequences = {{70, 70}, {0, 20}, {5, 90}};
  test.givenIds = true;
  return test;
}

void expectFiniteDifferences(const Method &method) {
  ConformanceCase test = differencesCase();
  const int selectHeads = reference::problemOf(test.spec).selectHeads(method);
  CaseInputs inputs = makeInputs(test, selectHeads);
  const Gradients gradients =
      attendBackward(method, inputs.problem, inputs.ids.data(), inputs.dout.data());
  auto expect = [&](const char *name, std::vector<uint16_t> &tensor, const Gradient &gradient) {
    for (size_t i = 7; i < gradient.exact.size(); i += gradient.exact.size() / 23) {
      const uint16_t word = tensor[i];
      const float x = fromWord(word, Dtype::FP16);
      double losses[2], places[2];
      for (int side : {0, 1}) {
        tensor[i] = toWord(x + (side ? 0.01f : -0.01f), Dtype::FP16);
        places[side] = fromWord(tensor[i], Dtype::FP16);
        losses[side] = lossOf(method, inputs.problem, inputs.ids, inputs.dout);
      }
      tensor[i] = word;
      EXPECT_NEAR(gradient.exact[i], (losses[1] - losses[0]) / (places[1] - places[0]), 1e-3)
          << name << " " << i;
    }
  };
  expect("dq", inputs.q, gradients.q);
  expect("dk", inputs.k, gradients.k);
  expect("dv", inputs.v, gradients.v);
}

TEST(Backward, isTheFiniteDifferences) {
  Method method = *axesOf("", smallCase().spec);
  expectFiniteDifferences(method);
  method.combine = Combine::None; // a selection per query head
  expectFiniteDifferences(method);
  method.denseLen = 80; // one sequence of two
  expectFiniteDifferences(method);
  method.selects = false;
  expectFiniteDifferences(method);
}

TEST(Backward, goesThroughTheRegionOfLogits) {
  Method method = *axesOf("", smallCase().spec);
  constexpr double cap = 2;
  auto isHidden = [](int position, int key) { return position - key > 40; };
  method.mapLogit = [=](double logit, int position, int key) {
    return isHidden(position, key) ? -INFINITY : cap * std::tanh(logit / cap);
  };
  method.logitSlope = [=](double logit, int position, int key) {
    const double bent = std::tanh(logit / cap);
    return isHidden(position, key) ? 0 : 1 - bent * bent;
  };
  expectFiniteDifferences(method);
}

/// 16-bit words of a gradient, as an implementation without errors of its own gives them.
std::vector<uint16_t> wordsOf(const Gradient &gradient, Dtype dtype) {
  std::vector<uint16_t> words;
  for (double x : gradient.exact)
    words.push_back(toWord(x, dtype));
  return words;
}

TEST(Backward, faultsAreFound) {
  ConformanceCase test = smallCase();
  test.sequences = {{500, 500}, {0, 77}, {3, 400}};
  CaseInputs inputs = makeInputs(test, 2);
  const Problem &problem = inputs.problem;
  Method method = *axesOf("", test.spec);
  std::vector<int32_t> ids = idsTensor(select(method, problem), problem);
  const Gradients gradients = attendBackward(method, problem, ids.data(), inputs.dout.data());
  const std::vector<uint16_t> dq = wordsOf(gradients.q, problem.dtype),
                              dk = wordsOf(gradients.k, problem.dtype),
                              dv = wordsOf(gradients.v, problem.dtype);
  auto report = [&](const std::vector<uint16_t> &k) {
    return compareGradients(problem, gradients, dq.data(), k.data(), dv.data());
  };
  EXPECT_TRUE(report(dk).withinBars()) << report(dk).text();
  std::vector<uint16_t> off = dk;
  off[12345] = toBf16(fromBf16(off[12345]) + 0.3f);
  EXPECT_FALSE(report(off).withinBars());
  EXPECT_EQ(report(off).first.substr(0, 5), "dk of");
  off = dk;
  off[size_t(520) * 2 * 64] = toBf16(1e-6f); // of a sequence without queries
  EXPECT_EQ(report(off).k.bad, 1);
  // One token forgets one of its blocks.
  ids[size_t(450) * problem.topk + 2] = -1;
  const Gradients without = attendBackward(method, problem, ids.data(), inputs.dout.data());
  EXPECT_FALSE(report(wordsOf(without.k, problem.dtype)).withinBars())
      << report(wordsOf(without.k, problem.dtype)).text();
}

/// Results of attention as 16-bit words and fp32, as a launch of gradients is given them.
struct Attended {
  std::vector<uint16_t> out;
  std::vector<float> lse;
};
Attended attended(const Method &method, const CaseInputs &inputs) {
  const Attention exact = attend(method, inputs.problem, inputs.ids.data());
  Attended words;
  for (double x : exact.out)
    words.out.push_back(toWord(x, inputs.problem.dtype));
  words.lse.assign(exact.lse.begin(), exact.lse.end());
  return words;
}

/// Every row and key of a sample is what it is in the whole, and as much of its bound as does not
/// come from the rounded output.
void expectSampleOfTheWhole(const Method &method) {
  ConformanceCase test = differencesCase();
  const CaseInputs inputs = makeInputs(test, reference::problemOf(test.spec).selectHeads(method));
  const Problem &problem = inputs.problem;
  const Attended given = attended(method, inputs);
  const std::vector<int> rows = {0, 31, 69, 70, 74}, keys = {0, 15, 16, 69, 75, 90, 150, 179};
  const Gradients whole = attendBackward(method, problem, inputs.ids.data(), inputs.dout.data());
  const Gradients some = sampleBackward(
      method, problem, {given.out.data(), given.lse.data(), inputs.ids.data(), inputs.dout.data()},
      rows, keys);
  auto expect = [&](const char *name, const Gradient &sample, const Gradient &all,
                    const std::vector<int> &tokens, size_t width) {
    ASSERT_EQ(sample.tokens, tokens);
    ASSERT_EQ(sample.exact.size(), tokens.size() * width);
    for (size_t i = 0; i < sample.exact.size(); ++i) {
      const size_t at = tokens[i / width] * width + i % width;
      EXPECT_NEAR(sample.exact[i], all.exact[at], all.bound[at]) << name << " " << i;
      EXPECT_LE(sample.bound[i], 1.01 * all.bound[at]) << name << " " << i;
      EXPECT_EQ(sample.bound[i] == 0, all.bound[at] == 0) << name << " " << i;
    }
  };
  expect("dq", some.q, whole.q, rows, size_t(problem.heads) * problem.headDim);
  expect("dk", some.k, whole.k, keys, size_t(problem.kvHeads) * problem.headDim);
  expect("dv", some.v, whole.v, keys, size_t(problem.kvHeads) * problem.valueWidth());
}

TEST(Backward, aSampleIsPartOfTheWhole) {
  Method method = *axesOf("", smallCase().spec);
  expectSampleOfTheWhole(method);
  method.combine = Combine::None;
  expectSampleOfTheWhole(method);
  method.denseLen = 80;
  expectSampleOfTheWhole(method);
  method.selects = false;
  expectSampleOfTheWhole(method);
  method.mapLogit = [](double logit, int, int) { return std::tanh(logit); };
  method.logitSlope = [](double logit, int, int) {
    return 1 - std::tanh(logit) * std::tanh(logit);
  };
  expectSampleOfTheWhole(method);
}

TEST(Backward, faultsOfASampleNameTheirToken) {
  ConformanceCase test = differencesCase();
  const Method method = *axesOf("", test.spec);
  const CaseInputs inputs = makeInputs(test, reference::problemOf(test.spec).selectHeads(method));
  const Attended given = attended(method, inputs);
  const Gradients some = sampleBackward(
      method, inputs.problem,
      {given.out.data(), given.lse.data(), inputs.ids.data(), inputs.dout.data()}, {69}, {15, 150});
  const std::vector<uint16_t> dq = wordsOf(some.q, Dtype::FP16), dv = wordsOf(some.v, Dtype::FP16);
  std::vector<uint16_t> dk = wordsOf(some.k, Dtype::FP16);
  auto report = [&] {
    return compareGradients(inputs.problem, some, dq.data(), dk.data(), dv.data());
  };
  EXPECT_TRUE(report().withinBars()) << report().text();
  dk.back() = toWord(9, Dtype::FP16);
  EXPECT_EQ(report().first.rfind("dk of token 150, head 1, element 63 is 9", 0), 0u)
      << report().first;
}

TEST(Half, Fp8RoundsToNearestEvenAndEndsAt448) {
  for (int byte = 0; byte < 256; ++byte)
    if (byte % 128 != 127) {
      ASSERT_EQ(toE4m3(fromE4m3(static_cast<uint8_t>(byte))), byte);
    }
  EXPECT_TRUE(std::isnan(fromE4m3(0x7f)) && std::isnan(fromE4m3(0xff)));
  EXPECT_EQ(fromE4m3(0x7e), 448);
  EXPECT_EQ(fromE4m3(0x01), 0x1p-9f);
  EXPECT_EQ(fromE4m3(0x88), -0x1p-6f);
  EXPECT_EQ(fromE4m3(0x38), 1);
  EXPECT_EQ(toE4m3(1.0625), toE4m3(1)) << "halfway, to the even one";
  EXPECT_EQ(toE4m3(1.1875), toE4m3(1.25));
  EXPECT_EQ(toE4m3(1.97), toE4m3(2)) << "into the next exponent";
  EXPECT_EQ(toE4m3(0x1p-10), 0);
  EXPECT_EQ(toE4m3(1.5 * 0x1p-9), 2);
  EXPECT_EQ(toE4m3(-1e6), 0xfe);
  EXPECT_EQ(toE4m3(std::nan("")) & 0x7f, 0x7f);
}

TEST(Half, conversionsRoundToNearestEven) {
  for (int word = 0; word < 65536; ++word) {
    auto w = static_cast<uint16_t>(word);
    if (std::isfinite(fromFp16(w))) {
      ASSERT_EQ(toFp16(fromFp16(w)), w);
    }
    if (std::isfinite(fromBf16(w))) {
      ASSERT_EQ(toBf16(fromBf16(w)), w);
    }
  }
  EXPECT_EQ(toBf16(1.0f + 1.0f / 256), toBf16(1.0f));
  EXPECT_EQ(toBf16(1.0f + 3.0f / 256), toBf16(1.0f + 4.0f / 256));
  EXPECT_EQ(toFp16(1.0f + 1.0f / 2048), toFp16(1.0f));
  EXPECT_EQ(toFp16(65519.0f), 0x7bff);
  EXPECT_EQ(toFp16(65520.0f), 0x7c00);
  EXPECT_EQ(toFp16(2.9802322e-8f), 0); // half of the smallest subnormal: to even
}

} // namespace
