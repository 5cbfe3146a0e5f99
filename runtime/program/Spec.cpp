// Canonical text of specialisations. The text is what cache keys are made of, so it must name every
// field (the structured bindings below stop compiling when one is added) and never depend on locale
// or process.
#include "runtime/program/Spec.h"
#include <algorithm>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <string_view>

namespace winnow {

namespace {

/// Percent-escapes whatever could be mistaken for the structure of the text (blanks, '=', control
/// characters).
std::string escape(std::string_view text) {
  std::string out;
  for (unsigned char c : text) {
    bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                 c == '_' || c == '-' || c == '.' || c == '+';
    out += plain ? std::string(1, static_cast<char>(c)) : fmt::format("%{:02x}", c);
  }
  return out;
}

/// Inverse of escape.
std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(&text[i + 1], &text[i + 1] + 2, code, 16).ptr == &text[i + 1] + 2) {
      out += static_cast<char>(code);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

/// A number that takes the whole text.
template <typename T> bool readNumber(std::string_view text, T &value) {
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size();
}

} // namespace

const std::vector<SpecField> &specFields() {
  // Never destroyed, like every table of the library: while the process exits, other threads may
  // still be using it.
  static const auto &fields = *new std::vector<SpecField>{
      {"heads", &Spec::heads, 1, kMostSpecNumber},
      {"kv_heads", &Spec::kvHeads, 1, kMostSpecNumber},
      {"head_dim", &Spec::headDim, 1, kMostSpecNumber},
      {"value_dim", &Spec::valueDim, 0, kMostSpecNumber},
      {"block", &Spec::block, 1, kMostSpecNumber},
      {"topk", &Spec::topk, 1, kMostSpecNumber},
  };
  return fields;
}

Status Spec::check() const {
  for (const SpecField &field : specFields())
    if (int value = this->*field.member; value < field.least || value > field.most)
      return fail(ErrorKind::Usage, fmt::format("{} must be a whole number from {} to {}, not {}",
                                                field.name, field.least, field.most, value));
  if (heads % kvHeads != 0)
    return fail(
        ErrorKind::Usage,
        fmt::format("{} query heads cannot share {} key/value heads evenly: heads must be a "
                    "multiple of kv_heads",
                    heads, kvHeads));
  const bool isInRange = scale >= kLeastScale && scale <= kMostScale; // NaN is not
  if (scale != 0 && !isInRange)
    return fail(ErrorKind::Usage,
                fmt::format("the softmax scale must be a number from {} to {}, or "
                            "0 for head_dim^-0.5, not {}",
                            kLeastScale, kMostScale, scale));
  if (hasFp8Keys() && !paged)
    return fail(ErrorKind::Usage,
                fmt::format("kv_dtype {} is for paged programs: set paged too", name(kvDtype)));
  if (backward && paged)
    return fail(ErrorKind::Usage,
                "backward is for packed tensors: prepare a program without paged for gradients");
  return {};
}

double Spec::softmaxScale() const {
  return scale != 0 ? scale : 1.0 / std::sqrt(static_cast<double>(headDim));
}

std::string Spec::text() const {
  // A new field does not compile until it is named here, and so in the cache key (fault F09).
  const auto &[heads, kvHeads, headDim, givenValueDim, block, topk, dtype, givenScale, paged,
               kvDtype, backward, params] = *this;
  // 0 and its default are the same program: the effective values are printed.
  (void)givenValueDim, (void)givenScale;
  std::string out = fmt::format(
      "heads={} kv_heads={} head_dim={} value_dim={} block={} topk={} dtype={} scale={}", heads,
      kvHeads, headDim, valueWidth(), block, topk, name(dtype), softmaxScale());
  if (paged) // packed programs keep the text, and so the keys, that they always had
    out += " paged=1";
  if (kvDtype != KvDtype::Same) // likewise
    out += fmt::format(" kv_dtype={}", name(kvDtype));
  if (backward) // likewise
    out += " backward=1";
  for (const auto &[param, value] : params)
    out += fmt::format(" set.{}={}", escape(param), escape(value));
  return out;
}

Result<Spec> Spec::parse(const std::string &text) {
  Spec spec;
  std::string_view rest = text;
  while (!rest.empty()) {
    size_t end = std::min(rest.find(' '), rest.size());
    std::string_view item = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    size_t equals = item.find('=');
    if (equals == std::string_view::npos)
      return fail(ErrorKind::Usage, fmt::format("spec: '{}' is not NAME=VALUE", item));
    std::string_view key = item.substr(0, equals), value = item.substr(equals + 1);
    const auto &fields = specFields();
    auto field = std::find_if(fields.begin(), fields.end(),
                              [&](const SpecField &one) { return key == one.name; });
    if (field != fields.end() ? readNumber(value, spec.*field->member)
                              : key == "scale" && readNumber(value, spec.scale))
      continue;
    if (Result<Dtype> dtype = parseDtype(std::string(value)); key == "dtype" && dtype)
      spec.dtype = *dtype;
    else if (key == "paged" && (value == "0" || value == "1"))
      spec.paged = value == "1";
    else if (key == "backward" && (value == "0" || value == "1"))
      spec.backward = value == "1";
    else if (Result<KvDtype> kv = parseKvDtype(std::string(value)); key == "kv_dtype" && kv)
      spec.kvDtype = *kv;
    else if (key.substr(0, 4) == "set.")
      spec.params[unescape(key.substr(4))] = unescape(value);
    else
      return fail(ErrorKind::Usage, fmt::format("spec: cannot read '{}'", item));
  }
  if (Status status = spec.check(); !status)
    return fail(status.error().kind, "spec: " + status.error().message);
  return spec;
}

const char *name(Dtype dtype) { return dtype == Dtype::BF16 ? "bf16" : "fp16"; }

Result<Dtype> parseDtype(const std::string &text) {
  if (text == "bf16" || text == "bfloat16")
    return Dtype::BF16;
  if (text == "fp16" || text == "float16" || text == "f16")
    return Dtype::FP16;
  return fail(ErrorKind::Usage, fmt::format("dtype '{}' is not known; use bf16 or fp16", text));
}

const char *name(KvDtype dtype) { return dtype == KvDtype::Same ? "same" : "fp8_e4m3"; }

Result<KvDtype> parseKvDtype(const std::string &text) {
  for (KvDtype dtype : {KvDtype::Same, KvDtype::Fp8E4m3})
    if (text == name(dtype))
      return dtype;
  return fail(ErrorKind::Usage,
              fmt::format("kv_dtype '{}' is not known; use same or fp8_e4m3", text));
}

} // namespace winnow
