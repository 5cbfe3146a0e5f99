// NumPy .npy files (format versions 1 to 3, little endian, C order): how real tensors come in and
// answers go out.
#pragma once
#include "runtime/Error.h"
#include "runtime/Spec.h"
#include <cstdint>
#include <string>
#include <vector>

namespace winnow {

struct NpyArray {
  std::string path;  ///< for error messages
  std::string descr; ///< NumPy's type string: "<f4", "<f2", "<i4", "<i8", ...
  std::vector<size_t> shape;
  std::string data; ///< elements in C order

  size_t elements() const;
  std::string shapeText() const; ///< "[4096, 32, 128]"
};

/// Reads a file; Usage with one sentence when it is missing, truncated, big endian, in Fortran
/// order or no .npy file.
Result<NpyArray> readNpy(const std::string &path);
/// Writes a file atomically; `data` holds the product of `shape` elements of type `descr`.
Status writeNpy(const std::string &path, const std::string &descr, const std::vector<size_t> &shape,
                const void *data);

/// Elements as 16-bit words of `dtype`. float16 is taken for fp16 only, float32 is rounded to
/// either. NaN or infinity in the data is refused: the answer would be NaN without a word.
Result<std::vector<uint16_t>> toWords(const NpyArray &array, Dtype dtype);
/// Elements of an integer array ("<i4" or "<i8") as int32.
Result<std::vector<int32_t>> toInt32(const NpyArray &array);

} // namespace winnow
