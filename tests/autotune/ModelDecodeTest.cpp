// The model of decode against launches that an H200 was measured at, and properties that any such
// model has. Kernels are those that the compiler lowers; nothing is compiled or run.
#include "compiler/driver/Compile.h"
#include "runtime/cache/Files.h"
#include "tests/autotune/FactsNeeded.h"
#include <cmath>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <map>

namespace winnow {
namespace {

/// MiniCPM4.1's shape over pages; a program of `config`, lowered.
ProgramImage lowered(const std::string &method, const std::string &arch, const std::string &config,
                     Spec spec = Spec()) {
  CompileRequest request;
  request.method = method;
  request.spec = std::move(spec);
  request.spec.paged = true;
  request.arch = arch;
  request.config = *Config::parse(config);
  auto program = lowerProgram(request);
  EXPECT_TRUE(program) << program.error().message;
  return program ? std::move(program->first) : ProgramImage();
}

ModelWorkload workloadFor(const ProgramImage &program, int batch, int tokens) {
  TuningKey key{kDecodePhase, program.method, program.spec, tokens, 0, program.arch, "", batch};
  return *workloadOf(key, program);
}

Candidate candidate(const ProgramImage &program) {
  return candidateOf(Config(), program, kDecodePhase);
}

const DeviceProfile &profile(const char *name) { return **findProfile(name); }

double microseconds(const ProgramImage &program, int batch, int tokens, const char *gpu = "h200") {
  Result<double> ms =
      predictMs(workloadFor(program, batch, tokens), candidate(program), profile(gpu));
  EXPECT_TRUE(ms) << ms.error().message;
  return ms ? 1000 * *ms : 0;
}

/// How far predictions lie from measured times, as shares of these.
class Errors {
public:
  void add(double predicted, double measured, double most, const std::string &what) {
    const double error = predicted / measured - 1;
    EXPECT_LE(std::abs(error), most)
        << what << ": " << predicted << " us where it took " << measured;
    squares += error * error;
    worst = std::max(worst, std::abs(error));
    count++;
  }
  double rms() const { return std::sqrt(squares / count); }
  double worst = 0;

private:
  double squares = 0;
  int count = 0;
};

/// What the constants were fitted on: 55 launches of docs/performance.md#decode-on-an-h200 and
/// docs/kernels/decode-step.md#figures, in microseconds.
TEST(ModelDecode, AgreesWithMeasuredLaunches) {
  constexpr double kMost = 0.12;
  Errors errors;
  auto row = [&](const char *what, const ProgramImage &program, int tokens,
                 const std::map<int, double> &measured) {
    for (const auto &[batch, us] : measured)
      errors.add(microseconds(program, batch, tokens), us, kMost,
                 fmt::format("{}, {} x {}", what, batch, tokens));
  };
  const ProgramImage dense = lowered("dense", "sm_90a", "");
  row("dense", dense, 4096, {{1, 8.6}, {16, 26.5}, {64, 69.7}});
  row("dense", dense, 8192, {{1, 10.1}, {16, 41.3}, {64, 128.5}});
  row("dense", dense, 16384, {{1, 13.3}, {16, 70.6}, {64, 245.7}});
  row("dense", dense, 32768, {{1, 20.5}, {16, 130}, {64, 481}});
  row("dense", dense, 131072, {{1, 44.5}, {16, 480}, {64, 1880}});
  // Kernels one after the other, as sm_80 and sm_89 have them; 16 sequences still do so.
  const ProgramImage chain = lowered("infllm_v2", "sm_90a", "decode_clusters=none");
  row("chain", chain, 8192, {{1, 30.1}, {16, 51.7}, {64, 120.6}});
  row("chain", chain, 16384, {{1, 29.9}, {16, 51.3}, {64, 126.1}});
  row("chain", chain, 32768, {{1, 30.2}, {16, 54.9}, {64, 139.1}});
  row("chain", chain, 131072, {{1, 31.0}, {16, 71}, {64, 208.6}});
  const ProgramImage step = lowered("infllm_v2", "sm_90a", "");
  row("step", step, 16384,
      {{1, 20.8}, {2, 22.7}, {4, 27.4}, {8, 32.1}, {16, 49.8}, {32, 75.1}, {64, 123.7}});
  row("step", step, 32768,
      {{1, 20.7}, {2, 22.8}, {4, 27.7}, {8, 32.9}, {16, 52.9}, {32, 79.0}, {64, 130.8}});
  row("step", step, 65536,
      {{1, 19.9}, {2, 23.5}, {4, 29.7}, {8, 35.7}, {16, 60.3}, {32, 91.3}, {64, 157.1}});
  row("step", step, 131072,
      {{1, 21.9}, {2, 25.4}, {4, 33.5}, {8, 40.5}, {16, 69.4}, {32, 112.3}, {64, 198.0}});
  EXPECT_LE(errors.rms(), 0.055);
  RecordProperty("rms", fmt::format("{:.4f}", errors.rms()));
  RecordProperty("worst", fmt::format("{:.4f}", errors.worst));
}

/// Attention over given blocks: attend_decode, before which nothing is there, and merge.
double givenMicroseconds(const ProgramImage &program, int batch, int tokens) {
  const DeviceProfile &gpu = profile("h200");
  Result<Prediction> all = predict(workloadFor(program, batch, tokens), candidate(program), gpu);
  EXPECT_TRUE(all) << all.error().message;
  double ms = 0;
  for (const KernelPrediction &kernel : all ? all->kernels : std::vector<KernelPrediction>())
    if (kernel.kernel == "attend_decode" || kernel.kernel == "merge")
      ms += kernel.ms;
  return 1000 * ms + gpu.launchMicros - ModelConstants().earlyMicros;
}

Spec minimaxSpec(int heads, int kvHeads) {
  Spec spec;
  spec.heads = heads, spec.kvHeads = kvHeads, spec.block = 128, spec.topk = 16;
  spec.params = {{"init", "0"}, {"local", "1"}};
  return spec;
}

/// What was not: attention alone, of other shapes and of fp8 keys.
TEST(ModelDecode, AgreesWithAttentionThatNothingWasFittedOn) {
  Errors errors;
  const ProgramImage own = lowered("infllm_v2", "sm_90a", "");
  for (const auto &[batch, us] : std::map<int, double>{{1, 9.6}, {16, 34.1}, {64, 102.1}})
    errors.add(givenMicroseconds(own, batch, 131072), us, 0.1, fmt::format("{} given", batch));
  errors.add(givenMicroseconds(lowered("infllm_v2", "sm_90a", "", minimaxSpec(64, 4)), 56, 65536),
             72.1, 0.12, "64 and 4 heads");
  errors.add(givenMicroseconds(lowered("infllm_v2", "sm_90a", "", minimaxSpec(16, 1)), 56, 65536),
             23.4, 0.12, "16 and 1 heads");
  Spec bytes;
  bytes.kvDtype = KvDtype::Fp8E4m3;
  const ProgramImage fp8 = lowered("infllm_v2", "sm_90a", "", bytes);
  for (const auto &[batch, us] : std::map<int, double>{{1, 10.7}, {16, 25.7}, {64, 63.0}})
    errors.add(givenMicroseconds(fp8, batch, 131072), us, 0.12, fmt::format("{} of fp8", batch));
  RecordProperty("worst", fmt::format("{:.4f}", errors.worst));
}

std::vector<TuningRecord> decodeRecords(const std::string &file) {
  std::vector<TuningRecord> records;
  TuningLines lines =
      parseTuningLines(*readWholeFile(systemFiles(), std::string(WINNOW_DATABASES) + "/" + file));
  for (TuningRecord &record : lines.records)
    if (record.key.phase == kDecodePhase)
      records.push_back(std::move(record));
  return records;
}

/// The tuner's own times of nine keys, three of them of a shape that nothing was fitted on. When
/// they were measured, decode_new_rows=wait was the default.
TEST(ModelDecode, AgreesWithTheRecordsOfTheH200) {
  constexpr double kMost = 0.12;
  Errors defaults, winners;
  int records = 0, ordered = 0;
  for (const TuningRecord &record : decodeRecords("h200.jsonl")) {
    ASSERT_EQ(record.origin, "measured");
    auto at = [&](Config config) {
      if (config.decodeNewRows == DecodeNewRows::Default)
        config.decodeNewRows = DecodeNewRows::Wait;
      return microseconds(
          lowered(record.key.method, record.key.arch, shortText(config), record.key.spec),
          record.key.batch, record.key.tokens);
    };
    const double standard = at(Config()), best = at(record.config);
    defaults.add(standard, 1000 * record.defaultMs, kMost, record.key.text());
    winners.add(best, 1000 * record.ms, kMost, record.key.text() + ", the winner");
    // What was measured to be gained is below what the model may tell apart, and it tells nothing.
    EXPECT_LT(record.defaultMs / record.ms, 1.1) << record.key.text();
    EXPECT_TRUE(keepsDefault(kDecodePhase, best, standard)) << record.key.text();
    ordered += best < standard;
    if (best >= standard) // a difference that it does not see
      EXPECT_LT(best, 1.01 * standard) << record.key.text();
    records++;
  }
  EXPECT_EQ(records, 9);
  EXPECT_GE(ordered, 5);
  EXPECT_LE(defaults.rms(), 0.07);
  RecordProperty("defaults_rms", fmt::format("{:.4f}", defaults.rms()));
  RecordProperty("defaults_worst", fmt::format("{:.4f}", defaults.worst));
  RecordProperty("winners_worst", fmt::format("{:.4f}", winners.worst));
}

TEST(ModelDecode, MoreSequencesAndLongerOnesTakeLonger) {
  for (const auto &[gpu, arch] :
       {std::pair("a100", "sm_80"), {"rtx4090", "sm_89"}, {"h200", "sm_90a"}})
    for (const char *method : {"infllm_v2", "dense", "relu_select"}) {
      const ProgramImage program = lowered(method, arch, "");
      double shorter = 0;
      for (int tokens : {2048, 16384, 131072, 1048576}) {
        double fewer = 0;
        for (int batch : {1, 4, 16, 64, 256}) {
          const double us = microseconds(program, batch, tokens, gpu);
          EXPECT_GT(us, fewer) << gpu << ", " << method << ": " << batch << " x " << tokens;
          EXPECT_EQ(us, microseconds(program, batch, tokens, gpu));
          if (batch == 64) {
            EXPECT_GE(us, shorter) << gpu << ", " << method << ": " << tokens;
            shorter = us;
          }
          fewer = us;
        }
      }
    }
}

TEST(ModelDecode, BetterGpusAreNeverSlower) {
  double DeviceProfile::*const rates[] = {&DeviceProfile::boostGhz, &DeviceProfile::mmaOperations,
                                          &DeviceProfile::l2Bytes, &DeviceProfile::l2Bandwidth,
                                          &DeviceProfile::dramBandwidth};
  for (const auto &[gpu, arch] : {std::pair("a100", "sm_80"), {"rtx4090", "sm_89"}}) {
    const ProgramImage program = lowered("infllm_v2", arch, "");
    for (int batch : {1, 64}) {
      const ModelWorkload workload = workloadFor(program, batch, 131072);
      const double before = *predictMs(workload, candidate(program), profile(gpu));
      for (double DeviceProfile::*rate : rates) {
        DeviceProfile better = profile(gpu);
        better.*rate *= 1.3;
        EXPECT_LE(*predictMs(workload, candidate(program), better), before * 1.000001) << gpu;
      }
      DeviceProfile slower = profile(gpu);
      slower.launchMicros *= 2; // no kernel of these is started early
      EXPECT_GT(*predictMs(workload, candidate(program), slower), before + 0.001 * 4 * 2);
    }
  }
}

/// Rings of 2, 3 and 4 stages took 107.4, 105.1 and 104.9 us (docs/kernels/attend-decode.md).
TEST(ModelDecode, OrdersTheRings) {
  double before = 1e9;
  for (int stages : {2, 3, 4}) {
    const ProgramImage program =
        lowered("infllm_v2", "sm_90a", fmt::format("decode_stages={}", stages));
    const double us = givenMicroseconds(program, 64, 131072);
    EXPECT_LE(us, before) << stages;
    EXPECT_NEAR(us, 105, 0.1 * 105);
    before = us;
  }
}

TEST(ModelDecode, NoFactHasADefault) {
  const ProgramImage program = lowered("infllm_v2", "sm_80", "");
  const ModelWorkload workload = workloadFor(program, 16, 131072);
  EXPECT_EQ(factsNeeded(workload, candidate(program)), 13);
}

TEST(ModelDecode, RefusesWhatItDoesNotDescribe) {
  const ProgramImage step = lowered("infllm_v2", "sm_90a", "decode_form=step");
  Result<double> ms = predictMs(workloadFor(step, 16, 131072), candidate(step), profile("h200"));
  ASSERT_FALSE(ms);
  EXPECT_NE(ms.error().message.find("decode_form=step"), std::string::npos);
  const ProgramImage chain = lowered("infllm_v2", "sm_80", "");
  ms = predictMs(workloadFor(chain, 0, 131072), candidate(chain), profile("a100"));
  ASSERT_FALSE(ms);
  EXPECT_EQ(ms.error().kind, ErrorKind::Usage);
}

/// What is shipped for GPUs that were not measured is what the model chooses, and it leaves the
/// default only for more than it may tell apart.
TEST(ModelDecode, ShippedRecordsAreItsChoices) {
  for (const auto &[file, gpu] : {std::pair("a100.jsonl", "a100"), {"rtx4090.jsonl", "rtx4090"}}) {
    int records = 0;
    double most = 1;
    std::map<std::string, SearchSpace> spaces;
    for (const TuningRecord &record : decodeRecords(file)) {
      records++;
      EXPECT_EQ(record.origin, "model");
      SearchSpace &space = spaces[record.key.spec.text()];
      if (space.candidates.empty())
        space =
            *makeSearchSpace(kDecodePhase, Effort::Full, phaseRanges(tunableRanges(), kDecodePhase),
                             [&](const Config &config) -> Result<ProgramImage> {
                               CompileRequest request;
                               request.method = record.key.method;
                               request.spec = record.key.spec;
                               request.arch = record.key.arch;
                               request.config = config;
                               WINNOW_TRY(auto program, lowerProgram(request));
                               return std::move(program.first);
                             });
      const Result<ModelChoice> choice = choose(space, {record.key, 0, 1}, profile(gpu));
      ASSERT_TRUE(choice) << choice.error().message;
      EXPECT_EQ(shortText(space.candidates[choice->index].config), shortText(record.config))
          << record.key.text();
      EXPECT_NEAR(choice->ms, record.ms, 1e-4 + 0.001 * record.ms) << record.key.text();
      for (const Candidate &one : space.candidates)
        most = std::max(most, record.defaultMs / *predictMs({record.key, 0, 1}, one, profile(gpu)));
      if (shortText(record.config) == "default")
        EXPECT_EQ(record.ms, record.defaultMs);
      else
        EXPECT_FALSE(keepsDefault(kDecodePhase, record.ms, record.defaultMs));
    }
    EXPECT_EQ(records, 9) << file;
    RecordProperty(fmt::format("{}_gain", gpu), fmt::format("{:.4f}", most));
  }
}

} // namespace
} // namespace winnow
