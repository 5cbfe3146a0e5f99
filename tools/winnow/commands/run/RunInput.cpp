// Checks and loads the tensors of `winnow run`, and writes its results.
#include "tools/winnow/commands/run/RunInput.h"
#include "reference/Half.h"
#include "reference/recorded/Npy.h"
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace winnow {
namespace {

/// Adds to `conversions` what is not taken as it is.
Result<NpyArray> readTensor(const std::string &path, int heads, const char *headsFlag, int dim,
                            const char *dimName, const char *dimFlag, Dtype dtype,
                            std::string &conversions) {
  Result<NpyArray> array = readNpy(path);
  if (!array)
    return array;
  std::vector<std::string> changes;
  if (array->shape.size() == 4 && array->shape[0] == 1) {
    changes.push_back(array->shapeText());
    array->shape.erase(array->shape.begin());
    changes.back() += " as " + array->shapeText();
  }
  if (array->descr != "<f2" || dtype != Dtype::FP16)
    changes.push_back(fmt::format("{} as {}", array->typeName(), name(dtype)));
  if (!changes.empty())
    conversions +=
        fmt::format("{}{} ({})", conversions.empty() ? "" : ", ", path, fmt::join(changes, ", "));
  if (array->shape.size() != 3)
    return fail(ErrorKind::Usage, fmt::format("{}: shape {} should be [tokens, heads, {}]", path,
                                              array->shapeText(), dimName));
  if (array->shape[1] != static_cast<size_t>(heads))
    return fail(ErrorKind::Usage,
                fmt::format("{}: shape {} has {} heads where {} says {}", path, array->shapeText(),
                            array->shape[1], headsFlag, heads));
  if (array->shape[2] != static_cast<size_t>(dim))
    return fail(ErrorKind::Usage,
                fmt::format("{}: shape {} has {} {} where {} says {}", path, array->shapeText(),
                            dimName, array->shape[2], dimFlag, dim));
  if (array->shape[0] >= size_t(1) << 31)
    return fail(ErrorKind::Usage, fmt::format("{}: more than 2^31 tokens", path));
  return array;
}

/// Cumulative lengths from a file, checked against the number of tokens.
Result<std::vector<int32_t>> readLengths(const std::string &path, int tokens) {
  WINNOW_TRY(NpyArray array, readNpy(path));
  Result<std::vector<int32_t>> lengths = toInt32(array);
  if (!lengths)
    return lengths;
  if (array.shape.size() != 1 || lengths->size() < 2)
    return fail(ErrorKind::Usage,
                fmt::format("{}: shape {} should be [batch + 1]", path, array.shapeText()));
  if (lengths->front() != 0 || lengths->back() != tokens)
    return fail(
        ErrorKind::Usage,
        fmt::format("{}: cumulative lengths run from {} to {}, they should run from 0 to {}", path,
                    lengths->front(), lengths->back(), tokens));
  for (size_t i = 1; i < lengths->size(); ++i)
    if ((*lengths)[i] < (*lengths)[i - 1])
      return fail(ErrorKind::Usage,
                  fmt::format("{}: entry {} is smaller than the one before it", path, i));
  return lengths;
}

Status setLengths(const RunFiles &files, int queryTokens, int keyTokens,
                  reference::Problem &problem) {
  problem.cuQ = {0, queryTokens};
  problem.cuK = {0, keyTokens};
  if (!files.cuSeqlens.empty()) {
    WINNOW_TRY(std::vector<int32_t> lengths, readLengths(files.cuSeqlens, queryTokens));
    problem.cuQ = lengths;
    if (files.cuSeqlensK.empty() && keyTokens != queryTokens)
      return fail(ErrorKind::Usage,
                  fmt::format("{}: {} query and {} key tokens need --cu-seqlens-k too",
                              files.cuSeqlens, queryTokens, keyTokens));
    problem.cuK = lengths;
  }
  if (!files.cuSeqlensK.empty()) {
    WINNOW_TRY(problem.cuK, readLengths(files.cuSeqlensK, keyTokens));
  }
  if (problem.cuK.size() != problem.cuQ.size())
    return fail(ErrorKind::Usage, fmt::format("queries come in {} sequences and keys in {}",
                                              problem.cuQ.size() - 1, problem.cuK.size() - 1));
  for (size_t s = 0; s + 1 < problem.cuQ.size(); ++s) {
    int queries = problem.cuQ[s + 1] - problem.cuQ[s], keys = problem.cuK[s + 1] - problem.cuK[s];
    if (queries > keys)
      return fail(
          ErrorKind::Usage,
          fmt::format("sequence {} has {} queries but only {} keys: a query needs its own key", s,
                      queries, keys));
  }
  return {};
}

} // namespace

Result<RunInput> loadInput(const RunFiles &files, const Spec &spec) {
  for (const auto &[path, flag] :
       {std::pair(&files.q, "--q"), {&files.k, "--k"}, {&files.v, "--v"}})
    if (path->empty())
      return fail(ErrorKind::Usage,
                  fmt::format("{} is missing: --q, --k and --v come together", flag));
  RunInput input;
  WINNOW_TRY(NpyArray q, readTensor(files.q, spec.heads, "--heads", spec.headDim, "head_dim",
                                    "--head-dim", spec.dtype, input.conversions));
  WINNOW_TRY(NpyArray k, readTensor(files.k, spec.kvHeads, "--kv-heads", spec.headDim, "head_dim",
                                    "--head-dim", spec.dtype, input.conversions));
  WINNOW_TRY(NpyArray v, readTensor(files.v, spec.kvHeads, "--kv-heads", spec.valueWidth(),
                                    spec.valueDim ? "value_dim" : "head_dim",
                                    spec.valueDim ? "--value-dim" : "--head-dim", spec.dtype,
                                    input.conversions));
  if (k.shape[0] != v.shape[0])
    return fail(ErrorKind::Usage,
                fmt::format("{} has shape {} but {} has {}: keys and values go together", files.k,
                            k.shapeText(), files.v, v.shapeText()));
  reference::Problem &problem = input.problem = reference::problemOf(spec);
  auto queryTokens = static_cast<int>(q.shape[0]), keyTokens = static_cast<int>(k.shape[0]);
  WINNOW_CHECK(setLengths(files, queryTokens, keyTokens, problem));
  const std::pair<const NpyArray *, std::vector<uint16_t> *> tensors[] = {
      {&q, &input.q}, {&k, &input.k}, {&v, &input.v}};
  for (auto [array, words] : tensors) {
    WINNOW_TRY(std::vector<uint16_t> converted, toWords(*array, spec.dtype));
    *words = std::move(converted);
  }
  problem.q = input.q.data();
  problem.k = input.k.data();
  problem.v = input.v.data();
  return input;
}

Status loadIds(const RunFiles &files, int selectHeads, RunInput &input) {
  WINNOW_TRY(NpyArray array, readNpy(files.useIds));
  const reference::Problem &problem = input.problem;
  std::vector<size_t> shape = {static_cast<size_t>(selectHeads),
                               static_cast<size_t>(problem.totalQ()),
                               static_cast<size_t>(problem.topk)};
  if (array.shape != shape)
    return fail(ErrorKind::Usage, fmt::format("{}: shape {} should be [{}, {}, {}]", files.useIds,
                                              array.shapeText(), shape[0], shape[1], shape[2]));
  WINNOW_TRY(input.ids, toInt32(array));
  return {};
}

Status writeResults(const RunFiles &files, const reference::Problem &problem, int selectHeads,
                    const CaseAnswer &answer) {
  auto tokens = static_cast<size_t>(problem.totalQ()), heads = static_cast<size_t>(problem.heads);
  if (!files.out.empty()) {
    std::vector<size_t> shape = {tokens, heads, static_cast<size_t>(problem.valueWidth())};
    std::vector<float> wide;
    if (problem.dtype == Dtype::BF16)
      for (uint16_t word : answer.out)
        wide.push_back(reference::fromBf16(word));
    Status written = problem.dtype == Dtype::BF16
                         ? writeNpy(files.out, "<f4", shape, wide.data())
                         : writeNpy(files.out, "<f2", shape, answer.out.data());
    if (!written)
      return written;
  }
  if (!files.lse.empty())
    WINNOW_CHECK(writeNpy(files.lse, "<f4", {heads, tokens}, answer.lse.data()));
  if (files.ids.empty())
    return {};
  if (selectHeads == 0)
    return fail(ErrorKind::Usage, fmt::format("--ids {}: this method selects nothing", files.ids));
  return writeNpy(files.ids, "<i4",
                  {static_cast<size_t>(selectHeads), tokens, static_cast<size_t>(problem.topk)},
                  answer.ids.data());
}

} // namespace winnow
