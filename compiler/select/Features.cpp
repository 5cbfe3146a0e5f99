// Which number of a spec is outside of a kernel's declaration, said in words.
#include "compiler/select/Features.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include <algorithm>
#include <cstdlib>
#include <tuple>

namespace winnow {

Status checkServed(const std::string &who, const Features &features, const Spec &spec) {
  auto refuse = [&](const std::string &why) {
    return fail(ErrorKind::Unsupported, who + ": " + why);
  };
  if (!llvm::is_contained(features.dtypes, spec.dtype))
    return refuse(llvm::formatv("elements of type {0} are not served", name(spec.dtype)).str());
  if (spec.hasFp8Keys() && features.fp8Dims.empty())
    return refuse(
        llvm::formatv("keys and values of type {0} are not served", name(spec.kvDtype)).str());
  auto dims = [&](llvm::ArrayRef<int> all) { return spec.hasFp8Keys() ? features.fp8Dims : all; };
  const std::tuple<const char *, int, llvm::ArrayRef<int>> numbers[] = {
      {"a head dimension of", spec.headDim, dims(features.headDims)},
      {"a value head dimension of", spec.valueWidth(), dims(features.valueDims)},
      {"a group of query heads per key/value head of", spec.group(), features.groups},
      {"a block size of", spec.block, features.blocks}};
  for (const auto &[what, value, served] : numbers) {
    if (served.empty() || llvm::is_contained(served, value))
      continue;
    const int given = value;
    const int nearest = *llvm::min_element(
        served, [&](int a, int b) { return std::abs(a - given) < std::abs(b - given); });
    return refuse(llvm::formatv("{0} {1} is not served: kernels exist for {2:$[, ]}; the nearest "
                                "is {3}",
                                what, value, llvm::make_range(served.begin(), served.end()),
                                nearest)
                      .str());
  }
  if (features.mostTopk > 0 && (spec.topk < 1 || spec.topk > features.mostTopk))
    return refuse(
        llvm::formatv("a top-k of {0} is not served: it must lie in 1..{1}; the nearest is {2}",
                      spec.topk, features.mostTopk, std::clamp(spec.topk, 1, features.mostTopk))
            .str());
  return {};
}

} // namespace winnow
