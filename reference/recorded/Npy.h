// NumPy .npy files (format versions 1 to 3, little endian, C order): how real tensors come in and
// answers go out.
#pragma once
#include "runtime/Error.h"
#include "runtime/program/Spec.h"
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace winnow {

struct NpyArray {
  std::string path;  ///< for error messages
  std::string descr; ///< NumPy's type string: "<f4", "<f2", "<V2", "<i4", "<i8", ...
  std::vector<size_t> shape;
  std::string data; ///< elements in C order

  size_t elements() const;
  std::string shapeText() const; ///< "[4096, 32, 128]"
  std::string typeName() const;  ///< "float32", "bfloat16", ...
};

/// What stands before the elements.
struct NpyHeader {
  std::string descr; ///< of a known type
  std::vector<size_t> shape;
  uint64_t begin = 0; ///< where the elements begin
  uint64_t bytes = 0; ///< how many bytes of them the shape needs
};
/// As long a header as NumPy itself reads without being asked to.
inline constexpr uint64_t kMaxNpyHeader = 10000;
/// Reads the header from a file's beginning (12 + kMaxNpyHeader bytes are enough). Errors: as
/// readNpy.
Result<NpyHeader> parseNpyHeader(const std::string &path, std::string_view bytes);

/// Reads a file; Usage with one sentence when it is missing, truncated, larger than its shape or
/// than the memory, big endian, in Fortran order or no .npy file.
Result<NpyArray> readNpy(const std::string &path);
/// Writes a file; `descr` is one of those that readNpy knows, `data` holds the product of `shape`
/// elements of type `descr`.
Status writeNpy(const std::string &path, const std::string &descr, const std::vector<size_t> &shape,
                const void *data);

/// Elements of a floating-point array as 16-bit words of `dtype`, rounded to nearest even. NaN or
/// infinity in the data is refused: the answer would be NaN without a word.
Result<std::vector<uint16_t>> toWords(const NpyArray &array, Dtype dtype);
/// Elements of an integer array ("<i4" or "<i8") as int32.
Result<std::vector<int32_t>> toInt32(const NpyArray &array);

} // namespace winnow
