// Reader and writer of .npy files. The format: magic "\x93NUMPY", version, header length, a Python
// dictionary literal with descr, fortran_order and shape, padded to 64 bytes, then the elements.
// Source: numpy.lib.format of the NumPy reference manual.
#include "tools/winnow/Npy.h"
#include "runtime/Files.h"
#include "tests/reference/Half.h"
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <limits>
#include <regex>

namespace winnow {
namespace {

tl::unexpected<Error> refuse(const std::string &path, const std::string &what) {
  return fail(ErrorKind::Usage, fmt::format("{}: {}", path, what));
}

Result<size_t> elementBytes(const std::string &path, const std::string &descr) {
  if (descr == "<f2" || descr == "<i2" || descr == "<u2")
    return 2;
  if (descr == "<f4" || descr == "<i4" || descr == "<u4")
    return 4;
  if (descr == "<f8" || descr == "<i8" || descr == "<u8")
    return 8;
  if (descr == "|u1" || descr == "|i1" || descr == "|b1")
    return 1;
  return refuse(
      path,
      fmt::format("element type '{}' is not known; use little-endian float16, float32 or int32",
                  descr));
}

/// Splits the file into its header text and the offset of the elements.
Result<std::pair<std::string, size_t>> headerOf(const std::string &path, const std::string &bytes) {
  if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY") != 0)
    return refuse(path, "not a NumPy .npy file");
  auto at = [&](size_t i) { return static_cast<size_t>(static_cast<unsigned char>(bytes[i])); };
  int version = static_cast<int>(at(6));
  size_t begin = version == 1 ? 10 : 12;
  if (version < 1 || version > 3 || bytes.size() < begin)
    return refuse(path, fmt::format("unknown .npy version {}", version));
  size_t length = at(8) | at(9) << 8;
  if (version > 1)
    length |= at(10) << 16 | at(11) << 24;
  if (bytes.size() < begin + length)
    return refuse(path, "the header is cut off");
  return std::make_pair(bytes.substr(begin, length), begin + length);
}

} // namespace

size_t NpyArray::elements() const {
  size_t count = 1;
  for (size_t extent : shape)
    count *= extent;
  return count;
}

std::string NpyArray::shapeText() const { return fmt::format("[{}]", fmt::join(shape, ", ")); }

Result<NpyArray> readNpy(const std::string &path) {
  Result<std::string> bytes = readWholeFile(systemFiles(), path);
  if (!bytes)
    return tl::unexpected(bytes.error());
  auto header = headerOf(path, *bytes);
  if (!header)
    return tl::unexpected(header.error());
  const auto &[text, begin] = *header;

  NpyArray array;
  array.path = path;
  static const std::regex descr("'descr'\\s*:\\s*'([^']*)'"),
      fortran("'fortran_order'\\s*:\\s*(True|False)"), shape("'shape'\\s*:\\s*\\(([0-9, ]*)\\)"),
      number("[0-9]+");
  std::smatch found;
  if (!std::regex_search(text, found, descr))
    return refuse(path, "only arrays of one simple element type are read");
  array.descr = found[1];
  if (!std::regex_search(text, found, fortran) || found[1] == "True")
    return refuse(path, "the array is in Fortran order; save np.ascontiguousarray(x)");
  if (!std::regex_search(text, found, shape))
    return refuse(path, "the header names no shape");
  std::string extents = found[1];
  for (std::sregex_iterator it(extents.begin(), extents.end(), number), end; it != end; ++it) {
    if (it->length() > 12)
      return refuse(path, "the shape is absurdly large");
    array.shape.push_back(std::stoull(it->str()));
  }
  Result<size_t> width = elementBytes(path, array.descr);
  if (!width)
    return tl::unexpected(width.error());
  size_t expected = *width;
  for (size_t extent : array.shape)
    if (__builtin_mul_overflow(expected, extent, &expected))
      return refuse(path, "the shape is absurdly large");
  if (bytes->size() - begin != expected)
    return refuse(path, fmt::format("holds {} bytes of elements where its shape {} needs {}",
                                    bytes->size() - begin, array.shapeText(), expected));
  array.data = bytes->substr(begin);
  return array;
}

Status writeNpy(const std::string &path, const std::string &descr, const std::vector<size_t> &shape,
                const void *data) {
  Result<size_t> width = elementBytes(path, descr);
  if (!width)
    return tl::unexpected(width.error());
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({},), }}",
                                   descr, fmt::join(shape, ", "));
  header.append(63 - (10 + header.size()) % 64, ' ').push_back('\n');
  std::string prefix = "\x93NUMPY";
  prefix += {'\x01', '\x00', static_cast<char>(header.size() & 255),
             static_cast<char>(header.size() >> 8)};
  size_t bytes = *width;
  for (size_t extent : shape)
    bytes *= extent;
  std::string file = prefix + header;
  file.append(static_cast<const char *>(data), bytes);
  return publishFile(systemFiles(), path, file);
}

Result<std::vector<uint16_t>> toWords(const NpyArray &array, Dtype dtype) {
  if (array.descr != "<f4" && array.descr != "<f2")
    return refuse(array.path, fmt::format("elements are '{}'; tensors must be float16 or float32",
                                          array.descr));
  if (array.descr == "<f2" && dtype != Dtype::FP16)
    return refuse(array.path, "float16 elements need --dtype fp16; for bf16 save float32");
  std::vector<uint16_t> words(array.elements());
  bool single = array.descr == "<f4";
  for (size_t i = 0; i < words.size(); ++i) {
    float value;
    if (single) {
      std::memcpy(&value, array.data.data() + i * 4, 4);
      words[i] = reference::toWord(value, dtype);
    } else {
      std::memcpy(&words[i], array.data.data() + i * 2, 2);
    }
    if (!std::isfinite(reference::fromWord(words[i], dtype)))
      return refuse(array.path,
                    fmt::format("element {} is NaN or infinite (as {})", i, name(dtype)));
  }
  return words;
}

Result<std::vector<int32_t>> toInt32(const NpyArray &array) {
  if (array.descr != "<i4" && array.descr != "<i8")
    return refuse(array.path,
                  fmt::format("elements are '{}'; integers (int32) are needed here", array.descr));
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
