// See TensorMap.h.
#include "emulator/TensorMap.h"
#include <cstring>

namespace winnow::emulator {

std::string boxCopies(const void *map, unsigned to, std::array<int, 3> corner,
                      std::vector<Copy> &copies, int &bytes) {
  TensorMapContent tensor;
  std::memcpy(&tensor, map, sizeof(tensor));
  if (tensor.magic != kTensorMapMagic)
    return "a bulk copy by a tensor map that the driver has not encoded";
  if (tensor.rank != 3)
    return "a bulk copy of three dimensions by a tensor map of another rank";
  if (to % 128 != 0)
    return "a bulk copy to an address of shared memory that is no multiple of 128";
  const unsigned rowBytes = 2 * tensor.box[0];
  if (rowBytes != 128)
    return "a tensor map whose box has no rows of 128 bytes";
  for (unsigned z = 0; z < tensor.box[2]; ++z)
    for (unsigned y = 0; y < tensor.box[1]; ++y)
      for (unsigned chunk = 0; chunk < rowBytes / 16; ++chunk) {
        const unsigned row = z * tensor.box[1] + y, address = to + row * 128 + chunk * 16;
        const int at[3] = {corner[0] + static_cast<int>(chunk * 8), corner[1] + static_cast<int>(y),
                           corner[2] + static_cast<int>(z)};
        bool inside = true;
        for (int d = 0; d < 3; ++d)
          inside = inside && at[d] >= 0 && at[d] < static_cast<int>(tensor.extents[d]);
        const unsigned char *from = inside ? tensor.base + 2 * static_cast<int64_t>(at[0]) +
                                                 static_cast<int64_t>(at[1]) * tensor.strides[0] +
                                                 static_cast<int64_t>(at[2]) * tensor.strides[1]
                                           : nullptr;
        copies.push_back({address ^ (address >> 7 & 7) << 4, from, 16});
      }
  bytes = static_cast<int>(rowBytes * tensor.box[1] * tensor.box[2]);
  return "";
}

} // namespace winnow::emulator
