// See TensorMap.h.
#include "emulator/TensorMap.h"
#include <cstring>

namespace winnow::emulator {

std::string boxCopies(const void *map, unsigned to, const std::vector<int> &corner,
                      std::vector<Copy> &copies, int &bytes) {
  TensorMapContent tensor;
  std::memcpy(&tensor, map, sizeof(tensor));
  if (tensor.magic != kTensorMapMagic)
    return "a bulk copy by a tensor map that the driver has not encoded";
  if (tensor.rank != corner.size())
    return "a bulk copy of other dimensions than its tensor map has";
  if (to % 128 != 0)
    return "a bulk copy to an address of shared memory that is no multiple of 128";
  const unsigned rowBytes = 2 * tensor.box[0];
  if (rowBytes != 128)
    return "a tensor map whose box has no rows of 128 bytes";
  unsigned rows = 1; // of 64 elements, over all dimensions but the innermost
  for (uint32_t d = 1; d < tensor.rank; ++d)
    rows *= tensor.box[d];
  for (unsigned row = 0; row < rows; ++row) {
    const unsigned char *from = tensor.base;
    bool isInside = true;
    unsigned rest = row;
    for (uint32_t d = 1; d < tensor.rank; rest /= tensor.box[d++]) {
      const int64_t at = int64_t(corner[d]) + rest % tensor.box[d];
      isInside = isInside && at >= 0 && at < tensor.extents[d];
      from += at * static_cast<int64_t>(tensor.strides[d - 1]);
    }
    for (unsigned chunk = 0; chunk < rowBytes / 16; ++chunk) {
      const int64_t at = int64_t(corner[0]) + chunk * 8;
      const unsigned address = to + row * 128 + chunk * 16;
      copies.push_back({address ^ (address >> 7 & 7) << 4,
                        isInside && at >= 0 && at < tensor.extents[0] ? from + 2 * at : nullptr,
                        16});
    }
  }
  bytes = static_cast<int>(rowBytes * rows);
  return "";
}

} // namespace winnow::emulator
