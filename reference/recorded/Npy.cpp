// Reader and writer of .npy files. The format: magic "\x93NUMPY", version, header length, a Python
// dictionary literal with descr, fortran_order and shape, padded to 64 bytes, then the elements.
// Source: numpy.lib.format of the NumPy reference manual.
#include "reference/recorded/Npy.h"
#include "reference/Half.h"
#include "runtime/cache/Files.h"
#include "runtime/cache/LittleEndian.h"
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <limits>
#include <unistd.h>

namespace winnow {
namespace {

tl::unexpected<Error> refuse(const std::string &path, const std::string &what) {
  return fail(ErrorKind::Usage, fmt::format("{}: {}", path, what));
}

struct ElementType {
  const char *descr, *name;
  size_t bytes;
};
/// ml_dtypes saves bfloat16 as two bytes without a meaning, other writers by its name.
constexpr ElementType kElementTypes[] = {
    {"<f2", "float16", 2},  {"<f4", "float32", 4},  {"<f8", "float64", 8},
    {"<V2", "bfloat16", 2}, {"|V2", "bfloat16", 2}, {"bfloat16", "bfloat16", 2},
    {"<i2", "int16", 2},    {"<i4", "int32", 4},    {"<i8", "int64", 8},
    {"<u2", "uint16", 2},   {"<u4", "uint32", 4},   {"<u8", "uint64", 8},
    {"|i1", "int8", 1},     {"|u1", "uint8", 1},    {"|b1", "bool", 1}};

const ElementType *findType(const std::string &descr) {
  for (const ElementType &type : kElementTypes)
    if (descr == type.descr)
      return &type;
  return nullptr;
}

/// Takes `token` from the front of a header, blanks before it included.
bool take(std::string_view &text, std::string_view token) {
  size_t begin = std::min(text.find_first_not_of(" \t\n"), text.size());
  if (text.substr(begin, token.size()) != token)
    return false;
  text.remove_prefix(begin + token.size());
  return true;
}

/// A Python string without escapes.
bool takeQuoted(std::string_view &text, std::string &word) {
  const char *quote = take(text, "'") ? "'" : take(text, "\"") ? "\"" : nullptr;
  size_t end = quote ? text.find(*quote) : std::string_view::npos;
  if (end == std::string_view::npos)
    return false;
  word = text.substr(0, end);
  text.remove_prefix(end + 1);
  return true;
}

/// The shape, "(3, 4)"; extents that do not fit are UINT64_MAX.
bool takeShape(std::string_view &text, std::vector<size_t> &shape) {
  bool more = take(text, "(");
  while (more && !take(text, ")")) {
    (void)take(text, ""); // blanks
    size_t extent = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), extent);
    if (error == std::errc::invalid_argument)
      return false;
    shape.push_back(error == std::errc() ? extent : std::numeric_limits<size_t>::max());
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    if (!take(text, ",")) {
      more = take(text, ")");
      return more;
    }
  }
  return more;
}

/// This machine's memory in bytes.
uint64_t memoryBytes() {
  long pages = ::sysconf(_SC_PHYS_PAGES), bytes = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && bytes > 0 ? static_cast<uint64_t>(pages) * static_cast<uint64_t>(bytes)
                                : UINT64_MAX;
}

} // namespace

Result<NpyHeader> parseNpyHeader(const std::string &path, std::string_view bytes) {
  if (bytes.size() < 10 || bytes.substr(0, 6) != "\x93NUMPY")
    return refuse(path, "not a NumPy .npy file");
  const uint64_t version = readNumber(bytes, 6, 1), begin = version == 1 ? 10 : 12;
  if (version < 1 || version > 3 || bytes.size() < begin)
    return refuse(path, fmt::format("unknown .npy version {}", version));
  const uint64_t length = readNumber(bytes, 8, version == 1 ? 2 : 4);
  if (length > kMaxNpyHeader)
    return refuse(path, fmt::format("the header has {} characters; NumPy and Winnow read {}",
                                    length, kMaxNpyHeader));
  if (bytes.size() < begin + length)
    return refuse(path, "the header is cut off");

  NpyHeader header;
  header.begin = begin + length;
  std::string_view text = bytes.substr(begin, length);
  std::string key;
  bool ordered = false, shaped = false, more = take(text, "{");
  while (more && !take(text, "}")) {
    if (!takeQuoted(text, key) || !take(text, ":"))
      return refuse(path, "the header cannot be read");
    if (key == "descr" && !takeQuoted(text, header.descr))
      return refuse(path, "only arrays of one simple element type are read");
    if (key == "fortran_order" && !(ordered = take(text, "False")))
      return refuse(path, "the array is in Fortran order; save np.ascontiguousarray(x)");
    if (key == "shape" && !(shaped = !shaped && takeShape(text, header.shape)))
      return refuse(path, "the header names no shape");
    more = take(text, ",");
    if (!more && !take(text, "}"))
      return refuse(path, "the header cannot be read");
  }
  if (header.descr.empty() || !ordered || !shaped)
    return refuse(path, "the header lacks one of descr, fortran_order and shape");
  const ElementType *type = findType(header.descr);
  if (!type)
    return refuse(path, fmt::format("element type '{}' is not known; use little-endian bfloat16, "
                                    "float16, float32, float64 or int32",
                                    header.descr));
  header.bytes = type->bytes;
  for (size_t extent : header.shape)
    if (__builtin_mul_overflow(header.bytes, extent, &header.bytes))
      return refuse(path, "the shape is absurdly large");
  return header;
}

size_t NpyArray::elements() const {
  size_t count = 1;
  for (size_t extent : shape)
    count *= extent;
  return count;
}

std::string NpyArray::shapeText() const { return fmt::format("[{}]", fmt::join(shape, ", ")); }

std::string NpyArray::typeName() const { return findType(descr)->name; }

Result<NpyArray> readNpy(const std::string &path) {
  FileContent content;
  constexpr uint64_t kPrefix = 12;
  if (int code = readBeginning(systemFiles(), path, kPrefix + kMaxNpyHeader, content))
    return refuse(path, fileProblem(code));
  WINNOW_TRY(NpyHeader header, parseNpyHeader(path, content.bytes));
  NpyArray array{path, header.descr, header.shape, ""};
  // Of the file's size before anything is read by it, and again of what was read.
  auto fits = [&](uint64_t bytes) -> Status {
    if (bytes - header.begin == header.bytes)
      return {};
    return refuse(path, fmt::format("holds {} bytes of elements where its shape {} needs {}",
                                    bytes - header.begin, array.shapeText(), header.bytes));
  };
  WINNOW_CHECK(fits(static_cast<uint64_t>(content.info.st_size)));
  if (header.bytes > memoryBytes())
    return refuse(
        path, fmt::format("its {} bytes are more than the memory of this machine", header.bytes));
  if (int code =
          readFile(systemFiles(), path, /*followLinks=*/true, header.begin + header.bytes, content))
    return refuse(path, fileProblem(code));
  WINNOW_CHECK(fits(std::max(content.bytes.size(), header.begin)));
  content.bytes.erase(0, header.begin);
  array.data = std::move(content.bytes);
  return array;
}

Status writeNpy(const std::string &path, const std::string &descr, const std::vector<size_t> &shape,
                const void *data) {
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({},), }}",
                                   descr, fmt::join(shape, ", "));
  header.append(63 - (10 + header.size()) % 64, ' ').push_back('\n');
  std::string prefix = "\x93NUMPY";
  prefix += {'\x01', '\x00', static_cast<char>(header.size() & 255),
             static_cast<char>(header.size() >> 8)};
  size_t bytes = findType(descr)->bytes;
  for (size_t extent : shape)
    bytes *= extent;
  std::string file = prefix + header;
  file.append(static_cast<const char *>(data), bytes);
  return publishFile(systemFiles(), path, file);
}

Result<std::vector<uint16_t>> toWords(const NpyArray &array, Dtype dtype) {
  std::vector<uint16_t> words(array.elements());
  auto convert = [&](auto element, auto widen) -> Status {
    for (size_t i = 0; i < words.size(); ++i) {
      std::memcpy(&element, array.data.data() + i * sizeof element, sizeof element);
      words[i] = reference::toWord(widen(element), dtype);
      if (!std::isfinite(reference::fromWord(words[i], dtype)))
        return refuse(array.path,
                      fmt::format("element {} is NaN or infinite (as {})", i, name(dtype)));
    }
    return {};
  };
  const std::string type = array.typeName();
  Status status = type == "float64"   ? convert(double(), [](double value) { return value; })
                  : type == "float32" ? convert(float(), [](float value) { return value; })
                  : type == "float16" ? convert(uint16_t(), reference::fromFp16)
                  : type == "bfloat16"
                      ? convert(uint16_t(), reference::fromBf16)
                      : refuse(array.path, fmt::format("elements are {}; tensors must be "
                                                       "bfloat16, float16, float32 or float64",
                                                       type));
  if (!status)
    return tl::unexpected(status.error());
  return words;
}

Result<std::vector<int32_t>> toInt32(const NpyArray &array) {
  if (array.descr != "<i4" && array.descr != "<i8")
    return refuse(array.path, fmt::format("elements are {}; integers (int32) are needed here",
                                          array.typeName()));
  std::vector<int32_t> values(array.elements());
  for (size_t i = 0; i < values.size(); ++i) {
    int64_t value = 0;
    if (array.descr == "<i4") {
      std::memcpy(&values[i], array.data.data() + i * 4, 4);
      continue;
    }
    std::memcpy(&value, array.data.data() + i * 8, 8);
    if (value < std::numeric_limits<int32_t>::min() || value > std::numeric_limits<int32_t>::max())
      return refuse(array.path, fmt::format("element {} does not fit int32", i));
    values[i] = static_cast<int32_t>(value);
  }
  return values;
}

} // namespace winnow
