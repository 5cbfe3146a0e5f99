// The CPU target's front: a method's text becomes compiled tile functions, and a call walks the
// segments of its batch.
#include "compiler/cpu/CpuProgram.h"
#include "compiler/cpu/CpuKernels.h"
#include "compiler/select/Features.h"
#include "compiler/select/SelectPasses.h"
#include "mlir/Parser/Parser.h"
#include "runtime/Threads.h"
#include "runtime/program/DenseLength.h"
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <thread>

using namespace mlir;

namespace winnow {
namespace cpu {

float toFloat(uint16_t word, bool isBf16) {
  if (isBf16) {
    uint32_t bits = static_cast<uint32_t>(word) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
  _Float16 half;
  std::memcpy(&half, &word, sizeof(half));
  return static_cast<float>(half);
}

uint16_t fromFloat(float value, bool isBf16) {
  uint16_t word;
  if (isBf16) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return std::isnan(value) ? 0x7fc0
                             : static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
  auto half = static_cast<_Float16>(value);
  std::memcpy(&word, &half, sizeof(word));
  return word;
}

/// An e4m3 number: a sign, 4 bits of exponent with bias 7, 3 of mantissa; all ones are NaN and
/// nothing is infinite (OCP 8-bit Floating Point Specification, section 5).
static float fromE4m3(uint8_t byte) {
  const int exponent = byte >> 3 & 15, mantissa = byte & 7;
  float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                  : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  if (exponent == 15 && mantissa == 7)
    magnitude = NAN;
  return byte & 0x80 ? -magnitude : magnitude;
}

void readKey(const KernelPlan &plan, const void *tensor, size_t offset, int count,
             float *elements) {
  static const auto table = [] {
    std::array<float, 256> values{};
    for (int byte = 0; byte < 256; ++byte)
      values[byte] = fromE4m3(static_cast<uint8_t>(byte));
    return values;
  }();
  for (int i = 0; i < count; ++i)
    elements[i] = plan.hasFp8Keys()
                      ? table[static_cast<const uint8_t *>(tensor)[offset + i]]
                      : toFloat(static_cast<const uint16_t *>(tensor)[offset + i], plan.isBf16);
}

void parallelFor(size_t count, int threads, const std::function<void(size_t)> &body) {
  std::atomic<size_t> next{0};
  runOnThreads(std::min<size_t>(threads, count), [&](bool) {
    for (size_t i; (i = next.fetch_add(1)) < count;)
      body(i);
  });
}

void gatherQueries(const KernelPlan &plan, const CpuTensors &tensors, const Segment &segment,
                   int first, int tokens, int firstHead, float *rows) {
  for (int row = 0; row < tokens * plan.group; ++row) {
    int index = first + row / plan.group;
    float *to = rows + row * plan.headDim;
    if (index >= segment.qCount) {
      std::fill_n(to, plan.headDim, 0.f);
      continue;
    }
    const auto from =
        static_cast<size_t>((segment.qBegin + index) * tensors.layout.qStride[0] +
                            (firstHead + row % plan.group) * tensors.layout.qStride[1]);
    for (int d = 0; d < plan.headDim; ++d)
      to[d] = toFloat(tensors.q[from + d], plan.isBf16);
  }
}

namespace {

class CompiledProgram : public CpuProgram {
public:
  std::unique_ptr<MLIRContext> context;
  MethodPlans plans; ///< without their regions, which have gone into the code
  std::unique_ptr<CpuCode> code;
  TileFunctions functions;
  Spec spec;
  std::string dense; ///< formula, where dense_len is `auto`
  DenseLength denseOfLaunch;

  Result<int> denseLength(int batch, int maxQ) const override {
    return plans.attend.crossing ? denseOfLaunch.of(batch, maxQ) : plans.attend.denseLength;
  }
  const std::string &denseFormula() const override { return dense; }
  int selectHeads() const override { return plans.selection ? plans.selection->selectHeads() : 0; }

  std::vector<SummaryShape> summaries() const override {
    return plans.selection && plans.selection->keepsRows() ? methodSummaries()
                                                           : std::vector<SummaryShape>();
  }

  Status run(const CpuTensors &given, int threads,
             const std::function<void(double)> &progress) const override {
    CpuTensors tensors = given;
    std::vector<SummaryShape> summaries;
    WINNOW_TRY(summaries, keptSummaries(given));
    tensors.layout = given.layout.withStrides(spec, summaries, longest(given));
    const bool appends = !summaries.empty() && !tensors.idsGiven;
    if (threads <= 0)
      threads = std::max(1u, std::thread::hardware_concurrency());
    const int totalQ = tensors.cuQ[tensors.batch];
    const bool selects = plans.selection && !tensors.idsGiven && !tensors.appendOnly,
               attends = !tensors.appendOnly && (tensors.out || tensors.lse);
    if (plans.selection && !tensors.appendOnly && !tensors.ids && totalQ > 0)
      return fail(ErrorKind::Usage, "the CPU target needs an ids tensor for a method that selects");
    const int sets = plans.attend.selectHeads();
    const double all = static_cast<double>(totalQ) * ((selects ? sets : 0) + (attends ? sets : 0));
    const auto caller = std::this_thread::get_id();
    std::atomic<size_t> done{0};
    auto advance = [&](size_t rows) {
      size_t now = done += rows;
      if (progress && std::this_thread::get_id() == caller && all > 0)
        progress(static_cast<double>(now) / all);
    };
    WINNOW_TRY(const int shortest, denseLength(tensors.batch, longestQueries(tensors)));
    for (int s = 0; s < tensors.batch; ++s) {
      const Segment segment = segmentOf(tensors, s, shortest);
      if (appends)
        appendSegment(*plans.selection, tensors, segment, s, threads);
      if (selects)
        selectSegment(*plans.selection, functions, tensors, segment, totalQ, threads, advance);
      if (attends)
        attendSegment(plans.attend, functions, tensors, segment, totalQ, threads, advance);
    }
    if (progress)
      progress(1);
    return {};
  }

  Status backward(const CpuTensors &given, const CpuGradients &gradients,
                  int threads) const override {
    if (!plans.backward)
      return fail(ErrorKind::Usage,
                  "this program has no gradients: prepare it with `backward` set");
    CpuTensors tensors = given;
    tensors.layout = given.layout.withStrides(spec, {}, longest(given));
    if (threads <= 0)
      threads = std::max(1u, std::thread::hardware_concurrency());
    WINNOW_TRY(const int shortest, denseLength(tensors.batch, longestQueries(tensors)));
    for (int s = 0; s < tensors.batch; ++s)
      backwardSegment(*plans.backward, functions, tensors, gradients,
                      segmentOf(tensors, s, shortest), tensors.cuQ[tensors.batch], threads);
    return {};
  }

private:
  /// `shortest`: keys of the shortest sequence that is selected from.
  static Segment segmentOf(const CpuTensors &tensors, int s, int shortest) {
    const TensorLayout &layout = tensors.layout;
    Segment segment{tensors.cuQ[s], tensors.cuQ[s + 1] - tensors.cuQ[s],
                    tensors.cuK ? tensors.cuK[s] : 0, keyCount(tensors, s)};
    if (layout.pageTable)
      segment.pages = layout.pageTable + s * layout.pageTableStride;
    if (layout.kBegin)
      segment.skipped = layout.kBegin[s];
    segment.isDense = segment.kCount < shortest;
    return segment;
  }
  static int keyCount(const CpuTensors &tensors, int sequence) {
    return tensors.layout.seqK ? tensors.layout.seqK[sequence]
                               : tensors.cuK[sequence + 1] - tensors.cuK[sequence];
  }
  static int longestQueries(const CpuTensors &tensors) {
    int queries = 0;
    for (int s = 0; s < tensors.batch; ++s)
      queries = std::max(queries, tensors.cuQ[s + 1] - tensors.cuQ[s]);
    return queries;
  }
  static int longest(const CpuTensors &tensors) {
    int keys = tensors.maxK;
    for (int s = 0; s < tensors.batch && tensors.maxK == 0; ++s)
      keys = std::max(keys, keyCount(tensors, s));
    return keys;
  }
  std::vector<SummaryShape> methodSummaries() const {
    std::vector<SummaryShape> all;
    if (plans.selection)
      for (const SelectionPlan::Summary &summary : plans.selection->summaries)
        all.push_back({summary.window, summary.stride});
    return all;
  }
  /// The summaries whose rows are given: those of the method, or none.
  Result<std::vector<SummaryShape>> keptSummaries(const CpuTensors &tensors) const {
    std::vector<SummaryShape> summaries;
    if (!tensors.rows[0] && !tensors.rows[1] && !tensors.appendOnly)
      return summaries;
    summaries = methodSummaries();
    if (summaries.empty() || summaries.size() > kMostRows)
      return fail(ErrorKind::Usage, "this method has no summaries that can be kept as rows");
    for (size_t i = 0; i < kMostRows; ++i)
      if ((tensors.rows[i] != nullptr) != (i < summaries.size()))
        return fail(ErrorKind::Usage,
                    fmt::format("rows[{}] is {}: this method keeps {} summaries", i,
                                tensors.rows[i] ? "given" : "null", summaries.size()));
    WINNOW_CHECK(tensors.layout.checkRows(summaries, tensors.batch, longest(tensors)));
    return summaries;
  }
};

template <typename Function> void bind(const CpuCode &code, const char *name, Function &function) {
  function = reinterpret_cast<Function>(code.find(name));
}

} // namespace
} // namespace cpu

Result<std::unique_ptr<CpuProgram>> CpuProgram::compile(const std::string &methodText,
                                                        const Spec &spec, const std::string &file) {
  using namespace cpu;
  auto program = std::make_unique<CompiledProgram>();
  DialectRegistry registry;
  registerCpuDialects(registry);
  registry.insert<select::SelectDialect>();
  program->context = std::make_unique<MLIRContext>(registry, MLIRContext::Threading::DISABLED);
  program->context->loadAllAvailableDialects();
  Complaints complaints(*program->context);
  ParsedMethod parsed = parseMethod(*program->context, methodText, file);
  select::MethodOp method = parsed.method;
  if (!method)
    return fail(parsed.unsupported ? ErrorKind::Unsupported : ErrorKind::Usage, parsed.complaint);
  static constexpr Features served{kElementTypes, kHeadDims, kHeadDims, kGroups,
                                   kBlockSizes,   kMostTopk, kHeadDims};
  Status status = specializeMethod(method, spec).and_then([&] {
    return checkServed("the CPU target", served, spec);
  });
  if (status && spec.backward)
    status = deriveBackward(method);
  if (!status)
    return tl::unexpected<Error>(status.error());
  fuseKernels(method);
  WINNOW_TRY(MethodPlans plans, planMethod(method));

  OwningOpRef<ModuleOp> functions = buildTileFunctions(*program->context, plans);
  if (!functions)
    return fail(ErrorKind::CompileFailed,
                "the CPU tile functions could not be built: " + complaints.first());
  WINNOW_TRY(auto code, CpuCode::create(*functions));
  program->code = std::move(code);
  plans.attend.logitHook = nullptr;
  if (plans.backward)
    plans.backward->logitHook = plans.backward->slopeHook = nullptr;
  if (plans.selection)
    plans.selection->scoreHook = nullptr;
  program->plans = std::move(plans);
  program->spec = spec;
  if (const std::optional<CrossingPoints> &crossing = program->plans.attend.crossing) {
    program->dense = crossing->formula(kDecodeTokens);
    WINNOW_TRY(program->denseOfLaunch, DenseLength::parse(program->dense));
  }
  const bool scores = program->plans.selection && program->plans.selection->scores();
  bind(*program->code, "attend_one", program->functions.attendOne);
  bind(*program->code, "attend_many", program->functions.attendMany);
  if (scores) {
    bind(*program->code, "logits", program->functions.logits);
    bind(*program->code, "add_lse", program->functions.addLse);
    bind(*program->code, "scores", program->functions.scores);
  }
  const bool backward = program->plans.backward.has_value();
  if (backward) {
    bind(*program->code, "weigh_one", program->functions.weighOne);
    bind(*program->code, "weigh_many", program->functions.weighMany);
    bind(*program->code, "add_queries_one", program->functions.addQueriesOne);
    bind(*program->code, "add_queries_many", program->functions.addQueriesMany);
    bind(*program->code, "add_keys", program->functions.addKeys);
  }
  if (!program->functions.attendOne || !program->functions.attendMany ||
      (scores && !program->functions.scores) || (backward && !program->functions.addKeys))
    return fail(ErrorKind::CompileFailed, "the JIT gave no code for the CPU tile functions");
  return std::unique_ptr<CpuProgram>(std::move(program));
}

} // namespace winnow
