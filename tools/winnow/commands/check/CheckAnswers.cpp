// See CheckAnswers.h.
#include "tools/winnow/commands/check/CheckAnswers.h"
#include "reference/Half.h"
#include "reference/recorded/Npy.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fmt/format.h>
#include <system_error>

namespace winnow {
namespace {

size_t queryTokens(const ConformanceCase &test) {
  size_t tokens = 0;
  for (const auto &[queries, keys] : test.sequences)
    tokens += queries;
  return tokens;
}

template <typename T> Result<std::vector<T>> loadElements(const std::string &path) {
  WINNOW_TRY(NpyArray array, readNpy(path));
  std::vector<T> elements(array.data.size() / sizeof(T));
  std::memcpy(elements.data(), array.data.data(), elements.size() * sizeof(T));
  return elements;
}

} // namespace

std::string AnswerFolder::fileOf(const ConformanceCase &test, const char *tensor) const {
  return fmt::format("{}/{}.{}.npy", path, test.name, tensor);
}

Status AnswerFolder::make() const {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error)
    return fail(ErrorKind::Usage, fmt::format("{}: cannot be made: {}", path, error.message()));
  return {};
}

Status AnswerFolder::save(const ConformanceCase &test, const CaseAnswer &answer) const {
  const size_t tokens = queryTokens(test), heads = test.spec.heads, topk = test.spec.topk;
  if (tokens == 0)
    return {};
  const char *word = test.spec.dtype == Dtype::BF16 ? "<V2" : "<f2";
  Status status = writeNpy(fileOf(test, "out"), word,
                           {tokens, heads, answer.out.size() / tokens / heads}, answer.out.data());
  if (status)
    status = writeNpy(fileOf(test, "lse"), "<f4", {heads, tokens}, answer.lse.data());
  if (status && !answer.ids.empty())
    status = writeNpy(fileOf(test, "ids"), "<i4", {answer.ids.size() / tokens / topk, tokens, topk},
                      answer.ids.data());
  return status;
}

Result<CaseAnswer> AnswerFolder::load(const ConformanceCase &test) const {
  CaseAnswer answer;
  const size_t tokens = queryTokens(test), rows = tokens * test.spec.heads;
  if (tokens == 0)
    return answer;
  auto out = loadElements<uint16_t>(fileOf(test, "out"));
  auto lse = loadElements<float>(fileOf(test, "lse"));
  if (!out || !lse)
    return tl::unexpected(!out ? out.error() : lse.error());
  answer.out = std::move(*out), answer.lse = std::move(*lse);
  if (std::filesystem::exists(fileOf(test, "ids"))) {
    WINNOW_TRY(answer.ids, loadElements<int32_t>(fileOf(test, "ids")));
  }
  if (answer.out.size() != rows * test.spec.valueWidth() || answer.lse.size() != rows)
    return fail(ErrorKind::Usage,
                fmt::format("{}: the case {} has another shape: save it again", path, test.name));
  return answer;
}

AnswerDistance distanceOf(const ConformanceCase &test, const CaseAnswer &a, const CaseAnswer &b) {
  AnswerDistance distance;
  const size_t tokens = queryTokens(test), width = test.spec.valueWidth(), topk = test.spec.topk;
  const size_t heads = test.spec.heads;
  const bool selects = !a.ids.empty();
  if (tokens == 0)
    return distance;
  if (a.out.size() != b.out.size() || a.lse.size() != b.lse.size() ||
      a.ids.size() != b.ids.size()) {
    distance.otherSelection = distance.rows = static_cast<long>(tokens * heads);
    return distance;
  }
  const size_t selectHeads = selects ? a.ids.size() / tokens / topk : heads;
  const size_t group = heads / selectHeads;
  for (size_t s = 0; s < selectHeads; ++s)
    for (size_t t = 0; t < tokens; ++t) {
      const size_t row = (s * tokens + t) * topk;
      ++distance.rows;
      if (selects && !std::equal(&a.ids[row], &a.ids[row] + topk, &b.ids[row])) {
        ++distance.otherSelection;
        continue;
      }
      for (size_t head = s * group; head < (s + 1) * group; ++head) {
        for (size_t i = 0; i < width; ++i) {
          const size_t at = (t * heads + head) * width + i;
          const double x = reference::fromWord(a.out[at], test.spec.dtype);
          const double y = reference::fromWord(b.out[at], test.spec.dtype);
          distance.output = std::max(distance.output, std::abs(x - y));
        }
        const float x = a.lse[head * tokens + t], y = b.lse[head * tokens + t];
        if (std::isfinite(x) != std::isfinite(y))
          distance.lseAlike = false;
        else if (std::isfinite(x))
          distance.lse = std::max(distance.lse, std::abs(double(x) - double(y)));
      }
    }
  return distance;
}

std::string AnswerDistance::text() const {
  return fmt::format("{} of {} rows select otherwise, outputs {:.3g} and LSE {:.3g} apart{}",
                     otherSelection, rows, output, lse,
                     lseAlike ? "" : ", LSE infinite in other places");
}

} // namespace winnow
