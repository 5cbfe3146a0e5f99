// A launch of decode: one query token of each of `batch` sequences of `tokens` keys in pages, whose
// summaries the host keeps. Kernels follow each other: append, the selection (weigh and top_k, or
// select_decode by clusters), attend_decode, merge. Each costs the gap before it and what a block
// of threads waits for once; those that stream keys or summaries also the slowest of device memory,
// of what a warp does in a row, of its producers and of its ring. See
// compiler/kernels/attend/Decode.cpp, score/Weigh.cpp and top_k/InCluster.cpp for the kernels.
#include "autotune/model/ModelKernels.h"
#include "runtime/program/CrossingPoints.h"
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fmt/format.h>

namespace winnow {

namespace {

constexpr int kCopyBytes = 512, kMmaRows = 16, kStateBytes = 8, kSumBytes = 4;
/// Elements of summaries and weights have 16 bits. Weights have a reference in fp32 for each head
/// and tile of kWeightTile summaries.
constexpr int kElementBytes = 2, kWeightTile = 32;
/// Of the key side of one mma.sync m16n8k16: 8 keys, 16 channels.
constexpr double kMmaElements = 8 * 16;
/// Instructions per byte of fp8 that becomes an operand of fp16: 160 for 32 keys of 128 + 128.
constexpr double kConvertInstructions = 160.0 / (32 * 256);
/// Bytes that one multiprocessor reads of L2 per clock, at most (white papers of A100 and H100;
/// taken to hold for Ada as well).
constexpr double kL2PerMultiprocessor = 64;

/// What the warps of a block of threads go over.
struct Tile {
  double bytes, products, logits, converts; ///< mma.sync, logits of a lane, converting instructions
};

/// The blocks of threads of a kernel that streams.
struct Stream {
  double blocks;  ///< of the grid
  int resident;   ///< of a multiprocessor
  double longest; ///< tiles of a block of threads, and at most
  int consumers, producers, stages;
  double bytes; ///< of the whole launch, read or written
};

Result<int64_t> valueOf(const std::string &formula, Variable lastKnown, const Variables &shape) {
  if (formula.empty())
    return 0;
  WINNOW_TRY(Formula parsed, Formula::parse(formula, lastKnown));
  return parsed.evaluate(shape);
}

/// The launch shape, with what the program's formulas make of it.
Result<Variables> decodeShape(const ModelWorkload &workload, const Candidate &candidate,
                              const DeviceProfile &profile) {
  const TuningKey &key = workload.key;
  Variables shape;
  shape[Variable::SmCount] = profile.multiprocessors;
  for (const Kernel &kernel : candidate.kernels)
    if (kernel.inClusters)
      shape[Variable::ClusterLimit] = kMostClusterBlocks;
  shape[Variable::Batch] = shape[Variable::TotalQ] = key.batch;
  shape[Variable::TotalK] = int64_t(key.batch) * key.tokens;
  shape[Variable::MaxQ] = shape[Variable::Rows] = 1;
  shape[Variable::MaxK] = key.tokens;
  WINNOW_TRY(shape[Variable::Parts], valueOf(candidate.parts, Variable::DenseLength, shape));
  WINNOW_TRY(shape[Variable::Cluster], valueOf(candidate.cluster, Variable::DenseLength, shape));
  WINNOW_TRY(shape[Variable::ScoreStride],
             valueOf(candidate.scoreStride, Variable::Cluster, shape));
  WINNOW_TRY(const int64_t chunk, valueOf(candidate.chunkTokens, Variable::ScoreStride, shape));
  shape[Variable::ChunkTokens] = shape[Variable::TokenCount] =
      std::min<int64_t>(std::max<int64_t>(chunk, 1), key.batch);
  return shape;
}

class DecodeModel {
public:
  DecodeModel(const ModelWorkload &workload, const Candidate &candidate,
              const DeviceProfile &profile, const Multiprocessor &multiprocessor,
              const ModelConstants &constants, const Variables &shape)
      : key(workload.key), candidate(candidate), profile(profile), multiprocessor(multiprocessor),
        constants(constants), shape(shape) {
    for (const Kernel &kernel : candidate.kernels)
      if (kernel.step == "score" && kernel.facts.tokens == 1)
        score = &kernel;
  }

  /// `first`: of the launch, before which nothing is there that it could start beside.
  Result<KernelPrediction> predict(const Kernel &kernel, bool first) const;

private:
  Result<KernelPrediction> withoutGap(const Kernel &kernel) const;
  Result<KernelPrediction> append(const Kernel &kernel) const;
  Result<KernelPrediction> scores(const Kernel &kernel) const;
  Result<KernelPrediction> search(const Kernel &kernel) const;
  Result<KernelPrediction> selectInCluster(const Kernel &kernel) const;
  Result<KernelPrediction> attend(const Kernel &kernel) const;
  Result<KernelPrediction> merge(const Kernel &kernel) const;

  Result<double> blocksOf(const Kernel &kernel) const;
  KernelPrediction stream(const Kernel &kernel, const Stream &stream, const Tile &tile) const;
  KernelPrediction finish(const Kernel &kernel, double once, const Pipes &pipes) const;
  double memoryClocks(double bytes, double bandwidth) const {
    return bytes / (profile.perClock(bandwidth) * profile.multiprocessors);
  }
  /// Of bytes that a kernel left for the next one.
  double leftClocks(double bytes) const {
    return memoryClocks(bytes,
                        bytes < profile.l2Bytes / 2 ? profile.l2Bandwidth : profile.dramBandwidth);
  }
  /// As far as shared memory and threads go; builders keep registers to what these allow.
  int residentOf(const Kernel &kernel) const {
    return residentBlocks(kernel, /*registers=*/1, multiprocessor);
  }
  double parts() const { return std::max<double>(1, shape[Variable::Parts]); }
  double partBytes(int valueDim) const {
    return parts() * key.batch * key.spec.heads * (kSumBytes * valueDim + kStateBytes);
  }
  /// Of a kernel in one launch of the program.
  double launchesOf(const Kernel &kernel) const {
    return kernel.perChunk ? std::ceil(key.batch / chunkTokens()) : 1;
  }
  double chunkTokens() const { return static_cast<double>(shape[Variable::TokenCount]); }
  /// Rows of summaries of a sequence that are scored.
  double rows(int stride) const { return static_cast<double>(key.tokens) / stride; }
  Tile summaryTile(int summaries, int dim) const {
    return {static_cast<double>(summaries) * dim * kElementBytes, summaries * dim / kMmaElements,
            kMmaRows * summaries / static_cast<double>(kWarpThreads), 0};
  }
  /// Of a row of a token and selection: what the score kernel leaves, and numbers in it.
  struct Left {
    double bytes = 0, numbers = 0;
  };
  Result<Left> leftPerRow() const;

  const TuningKey &key;
  const Candidate &candidate;
  const DeviceProfile &profile;
  const Multiprocessor &multiprocessor;
  const ModelConstants &constants;
  const Variables &shape;
  const Kernel *score = nullptr; ///< of decode, where the candidate has one
};

Result<double> DecodeModel::blocksOf(const Kernel &kernel) const {
  WINNOW_TRY(const int64_t x, valueOf(kernel.gridX, Variable::TokenCount, shape));
  WINNOW_TRY(const int64_t y, valueOf(kernel.gridY, Variable::TokenCount, shape));
  return static_cast<double>(std::max<int64_t>(1, x) * std::max<int64_t>(1, y));
}

/// A kernel of `once` clocks beside its pipes, but for the gap before it.
KernelPrediction DecodeModel::finish(const Kernel &kernel, double once, const Pipes &pipes) const {
  KernelPrediction prediction;
  prediction.residentBlocks = residentOf(kernel);
  const double launches = launchesOf(kernel);
  prediction.ms = launches * profile.milliseconds(once + pipes.joined());
  prediction.pipes = pipes.inMilliseconds(launches, profile);
  prediction.pipes.push_back({"once", profile.milliseconds(once * launches)});
  return prediction;
}

KernelPrediction DecodeModel::stream(const Kernel &kernel, const Stream &s,
                                     const Tile &tile) const {
  const double rounds = std::max(1.0, s.blocks / (profile.multiprocessors * s.resident));
  const double tiles = rounds * s.longest;
  const double refill = constants.loadedLatency * profile.latency +
                        tile.bytes / profile.perClock(profile.l2Bandwidth);
  const double warp = tile.products * mmaClocks(profile) + tile.logits * constants.softmaxClocks +
                      constants.visitClocks +
                      tile.converts * constants.raiseClocks; // what rescaling costs
  Pipes pipes(constants.norm);
  pipes.add("device memory", memoryClocks(s.bytes, profile.dramBandwidth));
  pipes.add("warp latency",
            (rounds - 1) * constants.streamClocks + std::ceil(tiles / s.consumers) * warp);
  pipes.add("producers", tiles * tile.bytes / kCopyBytes * constants.copyClocks / s.producers);
  pipes.add("ring", tiles * refill / std::max(1, s.stages - 1));
  KernelPrediction prediction = finish(kernel, constants.streamClocks, pipes);
  prediction.residentBlocks = s.resident;
  return prediction;
}

/// Means of the windows that the step's keys finish. A cluster that makes such a row itself has
/// append run beside it.
Result<KernelPrediction> DecodeModel::append(const Kernel &kernel) const {
  const bool beside =
      shape[Variable::Cluster] > 0 && candidate.effective.decodeNewRows == DecodeNewRows::Make;
  return finish(kernel, beside ? 0 : constants.shortClocks, Pipes(constants.norm));
}

/// weigh, and score_decode of methods without softmax.
Result<KernelPrediction> DecodeModel::scores(const Kernel &kernel) const {
  FactReader fact(kernel);
  const int warps = fact(&KernelFacts::warps), dim = fact(&KernelFacts::headDim);
  const int summaries = fact(&KernelFacts::tileSummaries);
  const int stride = fact(&KernelFacts::summaryStride);
  WINNOW_CHECK(fact.status());
  WINNOW_TRY(const double blocks, blocksOf(kernel));
  WINNOW_TRY(const int64_t columns, valueOf(kernel.gridY, Variable::TokenCount, shape));
  WINNOW_TRY(const Left left, leftPerRow());
  const bool hasRing = kernel.facts.producers.has_value();
  const Tile tile = summaryTile(summaries, dim);
  const double walks = std::max(1.0, chunkTokens() * columns), tiles = rows(stride) / summaries;
  const double parts = blocks / walks;
  // A normaliser's summary that begins in the tile before the part wants that tile too.
  const double again = hasRing ? 1 : 0;
  Stream s{};
  s.blocks = blocks;
  s.resident = residentOf(kernel);
  s.longest = std::ceil(tiles / parts + again);
  s.consumers = 1; // warps share each tile
  s.producers = hasRing ? *kernel.facts.producers : warps;
  s.stages = hasRing ? std::max(2, static_cast<int>(kernel.sharedBytes / tile.bytes)) : 2;
  s.bytes = walks * (tiles + again * parts) * tile.bytes +
            chunkTokens() * key.spec.heads / std::max(1, *score->facts.group) * left.bytes;
  Tile share = tile;
  share.products /= warps, share.logits /= warps;
  return stream(kernel, s, share);
}

Result<DecodeModel::Left> DecodeModel::leftPerRow() const {
  if (!score)
    return Left{};
  FactReader fact(*score);
  const int group = fact(&KernelFacts::group), stride = fact(&KernelFacts::summaryStride);
  const int softmax = fact(&KernelFacts::softmax), bytes = fact(&KernelFacts::scoreBytes);
  WINNOW_CHECK(fact.status());
  if (!softmax) {
    const double blocks = static_cast<double>(key.tokens) / key.spec.block;
    return Left{blocks * bytes, blocks};
  }
  const double weights = group * rows(stride);
  return Left{weights * (kElementBytes + static_cast<double>(kSumBytes) / kWeightTile), weights};
}

/// top_k at decode: a block of threads has a row, and makes it from what the score kernel left.
Result<KernelPrediction> DecodeModel::search(const Kernel &kernel) const {
  WINNOW_TRY(const double blocks, blocksOf(kernel));
  const bool scored = score && launched(*score, shape);
  WINNOW_TRY(const Left left, scored ? leftPerRow() : Result<Left>(Left{}));
  int groups = 1;
  if (score) {
    FactReader fact(*score);
    groups = key.spec.heads / std::max(1, fact(&KernelFacts::group));
    WINNOW_CHECK(fact.status());
  }
  const double all = chunkTokens() * groups;
  const double fullest = std::ceil(all / profile.multiprocessors);
  Pipes pipes(constants.norm);
  pipes.add("memory", leftClocks(all * left.bytes));
  pipes.add("L2 of one multiprocessor", fullest * left.bytes / kL2PerMultiprocessor);
  pipes.add("issue",
            fullest * left.numbers / kWarpThreads * constants.softmaxInstructions / kSchedulers);
  const double rounds = std::max(1.0, blocks / (profile.multiprocessors * residentOf(kernel)));
  return finish(kernel, rounds * constants.searchClocks, pipes);
}

/// select_decode: a cluster's exchange and search are hidden by nothing, since clusters that run
/// at a time began together.
Result<KernelPrediction> DecodeModel::selectInCluster(const Kernel &kernel) const {
  if (!score)
    return fail(ErrorKind::Unsupported,
                fmt::format("kernel {} is not described without a kernel of scores beside it, "
                            "which says how summaries lie",
                            kernel.name));
  FactReader fact(*score);
  const int dim = fact(&KernelFacts::headDim), summaries = fact(&KernelFacts::tileSummaries);
  const int stride = fact(&KernelFacts::summaryStride);
  WINNOW_CHECK(fact.status());
  WINNOW_TRY(const double blocks, blocksOf(kernel));
  const double warps = kernel.blockThreads / (2.0 * kWarpThreads); // as many load as multiply
  const Tile tile = summaryTile(summaries, dim);
  const double clusters = blocks / static_cast<double>(shape[Variable::Cluster]);
  const double tiles = rows(stride) / summaries;
  const double rounds = std::max(1.0, blocks / (profile.multiprocessors * residentOf(kernel)));
  const double own = rounds * tiles * clusters / blocks;
  Pipes pipes(constants.norm);
  pipes.add("device memory", memoryClocks(clusters * tiles * tile.bytes, profile.dramBandwidth));
  pipes.add("warp latency", std::ceil(own / warps) *
                                (tile.products * mmaClocks(profile) +
                                 tile.logits * constants.softmaxClocks + constants.visitClocks));
  pipes.add("producers", own * tile.bytes / kCopyBytes * constants.copyClocks / warps);
  return finish(kernel, rounds * constants.clusterClocks, pipes);
}

Result<KernelPrediction> DecodeModel::attend(const Kernel &kernel) const {
  FactReader fact(kernel);
  const int keys = fact(&KernelFacts::keys), dim = fact(&KernelFacts::headDim);
  const int valueDim = fact(&KernelFacts::valueDim), topk = fact(&KernelFacts::topk);
  const int producers = fact(&KernelFacts::producers);
  const int stages = fact(&KernelFacts::stages);
  WINNOW_CHECK(fact.status());
  WINNOW_TRY(const double blocks, blocksOf(kernel));
  const double attended =
      topk > 0 ? std::min<double>(key.tokens, static_cast<double>(topk) * key.spec.block)
               : key.tokens;
  const double tiles = std::ceil(attended / keys);
  const double elements = static_cast<double>(keys) * (dim + valueDim);
  Tile tile{};
  tile.bytes = elements * key.spec.keyElementBytes();
  tile.products = elements / kMmaElements;
  tile.logits = kMmaRows * keys / static_cast<double>(kWarpThreads);
  tile.converts = key.spec.hasFp8Keys() ? elements * kConvertInstructions : 0;
  Stream s{};
  s.blocks = blocks;
  s.resident = residentOf(kernel);
  if (const int asked = candidate.effective.decodeResident)
    s.resident = std::min(s.resident, asked);
  s.longest = std::ceil(tiles / parts());
  s.consumers = 1;
  s.producers = producers, s.stages = stages;
  // Tiles of 16 heads of one KV head go over the same keys side by side: memory brings them once.
  s.bytes =
      static_cast<double>(key.batch) * key.spec.kvHeads * tiles * tile.bytes + partBytes(valueDim);
  return stream(kernel, s, tile);
}

/// Warps of merge share a row's parts where these are many, and join them one after the other.
Result<KernelPrediction> DecodeModel::merge(const Kernel &kernel) const {
  WINNOW_TRY(const double blocks, blocksOf(kernel));
  const double warps = blocks * kernel.blockThreads / kWarpThreads;
  const double perRow = std::max(1.0, std::floor(warps / (key.batch * key.spec.heads)));
  Pipes pipes(constants.norm);
  pipes.add("memory", leftClocks(partBytes(key.spec.valueWidth())));
  return finish(kernel, constants.shortClocks + std::ceil(parts() / perRow) * constants.partClocks,
                pipes);
}

Result<KernelPrediction> DecodeModel::withoutGap(const Kernel &kernel) const {
  if (kernel.step == "append")
    return append(kernel);
  if (kernel.step == "merge")
    return merge(kernel);
  if (kernel.step == "top_k")
    return kernel.inClusters ? selectInCluster(kernel) : search(kernel);
  const bool attends = kernel.step == "attend";
  if (attends || kernel.step == "score") {
    FactReader fact(kernel);
    const int tokens = fact(&KernelFacts::tokens);
    WINNOW_CHECK(fact.status());
    if (tokens == 1)
      return attends ? attend(kernel) : scores(kernel);
  }
  return fail(ErrorKind::Unsupported,
              fmt::format("the performance model of decode does not describe kernel {} (step {}): "
                          "it knows methods whose summaries are kept and whose scores are weights, "
                          "or that select nothing",
                          kernel.name, kernel.step));
}

Result<KernelPrediction> DecodeModel::predict(const Kernel &kernel, bool first) const {
  WINNOW_TRY(KernelPrediction prediction, withoutGap(kernel));
  const double micros = kernel.early && !first ? constants.earlyMicros : profile.launchMicros;
  const double gap = launchesOf(kernel) * micros / 1000;
  prediction.kernel = kernel.name;
  prediction.ms += gap;
  prediction.pipes.push_back({"gap before it", gap});
  return prediction;
}

/// Whether sequences of this length are selected from, as far as a dense_len goes.
Status selects(const TuningKey &key) {
  const auto param = key.spec.params.find("dense_len");
  if (param == key.spec.params.end() ||
      (!CrossingPoints::isAuto(param->second) &&
       std::strtol(param->second.c_str(), nullptr, 10) <= key.tokens))
    return {};
  return fail(ErrorKind::Unsupported,
              fmt::format("the performance model of decode describes sequences that are selected "
                          "from: dense_len={} leaves out, or may leave out, those of {} keys",
                          param->second, key.tokens));
}

} // namespace

Result<Prediction> predictDecode(const ModelWorkload &workload, const Candidate &candidate,
                                 const DeviceProfile &profile, const ModelConstants &constants) {
  if (workload.key.batch <= 0)
    return fail(ErrorKind::Usage, "a launch of decode has a batch");
  if (candidate.effective.decodeForm == DecodeForm::Step)
    return fail(
        ErrorKind::Unsupported,
        "the performance model describes decode by a chain of kernels, not decode_form=step");
  WINNOW_CHECK(selects(workload.key));
  DeviceProfile unlimited = profile; // a step of decode is too short for the power limit
  unlimited.clockGhz = profile.boostGhz;
  WINNOW_TRY(const Variables shape, decodeShape(workload, candidate, unlimited));
  WINNOW_TRY(const Multiprocessor multiprocessor, unlimited.multiprocessor());
  const DecodeModel model(workload, candidate, unlimited, multiprocessor, constants, shape);
  Prediction prediction;
  for (const Kernel &kernel : candidate.kernels) {
    if (!launched(kernel, shape))
      continue;
    WINNOW_TRY(KernelPrediction one, model.predict(kernel, prediction.kernels.empty()));
    prediction.ms += one.ms;
    prediction.kernels.push_back(std::move(one));
  }
  return prediction;
}

} // namespace winnow
