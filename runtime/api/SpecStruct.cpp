// Fields of winnow_spec by name; see SpecStruct.h.
#include "runtime/api/SpecStruct.h"
#include "runtime/api/HostBoundary.h"

namespace winnow {
namespace {

std::string paramsText(const Spec &spec) {
  std::string text;
  for (const auto &[param, value] : spec.params)
    text += fmt::format("{}{}={}", text.empty() ? "" : ",", param, value);
  return text;
}

} // namespace

Result<ProgramRequest> toRequest(const winnow_spec *given) {
  WINNOW_TRY(winnow_spec c, adopt(given, "spec"));
  if (!c.method || !*c.method)
    return fail(ErrorKind::Usage, "spec: method is null or empty");
  ProgramRequest request;
  request.method = c.method;
  request.arch = orEmpty(c.arch);
  Spec &spec = request.spec;
  spec.heads = c.heads;
  spec.kvHeads = c.kv_heads;
  spec.headDim = c.head_dim ? c.head_dim : spec.headDim;
  spec.valueDim = c.value_dim;
  spec.block = c.block ? c.block : spec.block;
  spec.topk = c.topk ? c.topk : spec.topk;
  spec.scale = c.scale;
  spec.paged = c.paged != 0;
  spec.backward = c.backward != 0;
  if (c.kv_dtype != WINNOW_KV_SAME && c.kv_dtype != WINNOW_KV_FP8_E4M3)
    return fail(ErrorKind::Usage, fmt::format("spec: {} is not a winnow_kv_dtype", c.kv_dtype));
  spec.kvDtype = c.kv_dtype == WINNOW_KV_SAME ? KvDtype::Same : KvDtype::Fp8E4m3;
  if (Status status = spec.check(); !status)
    return fail(status.error().kind, "spec: " + status.error().message);
  if (c.expected_tokens < 0 || c.expected_overlap < 0 || c.expected_batch < 0)
    return fail(ErrorKind::Usage,
                "spec: expected_tokens, expected_overlap and expected_batch must not be negative");
  request.workload = {c.expected_tokens, c.expected_overlap, c.expected_batch};
  if (c.dtype != WINNOW_BF16 && c.dtype != WINNOW_FP16)
    return fail(ErrorKind::Usage, fmt::format("spec: {} is not a winnow_dtype", c.dtype));
  spec.dtype = c.dtype == WINNOW_BF16 ? Dtype::BF16 : Dtype::FP16;
  std::string params = orEmpty(c.params);
  for (size_t begin = 0; begin < params.size();) {
    size_t end = std::min(params.find(',', begin), params.size());
    std::string item = params.substr(begin, end - begin);
    size_t equals = item.find('=');
    if (equals == std::string::npos || equals == 0)
      return fail(ErrorKind::Usage, fmt::format("spec: params: '{}' is not NAME=VALUE", item));
    if (!spec.params.emplace(item.substr(0, equals), item.substr(equals + 1)).second)
      return fail(ErrorKind::Usage,
                  fmt::format("spec: params: '{}' is given twice", item.substr(0, equals)));
    begin = end + 1;
  }
  WINNOW_TRY(request.config, Config::parse(orEmpty(c.config)));
  return request;
}

SpecStruct::SpecStruct(const ProgramRequest &request)
    : params(paramsText(request.spec)), config(request.config.text()) {
  spec.struct_size = sizeof(spec);
  spec.method = request.method.c_str();
  spec.heads = request.spec.heads;
  spec.kv_heads = request.spec.kvHeads;
  spec.head_dim = request.spec.headDim;
  spec.value_dim = request.spec.valueWidth();
  spec.block = request.spec.block;
  spec.topk = request.spec.topk;
  spec.dtype = request.spec.dtype == Dtype::BF16 ? WINNOW_BF16 : WINNOW_FP16;
  spec.scale = request.spec.scale;
  spec.params = params.c_str();
  spec.config = config.c_str();
  spec.arch = request.arch.c_str();
  spec.expected_tokens = request.workload.tokens;
  spec.expected_overlap = request.workload.overlap;
  spec.expected_batch = request.workload.batch;
  spec.paged = request.spec.paged;
  spec.backward = request.spec.backward;
  spec.kv_dtype = request.spec.hasFp8Keys() ? WINNOW_KV_FP8_E4M3 : WINNOW_KV_SAME;
}

} // namespace winnow
