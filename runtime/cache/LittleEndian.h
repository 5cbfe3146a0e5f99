// Numbers in Winnow's binary files, image and bundle: little-endian, whatever the machine.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace winnow {

inline void appendNumber(std::string &out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i)
    out += static_cast<char>(value >> (8 * i));
}

/// Of `count` bytes, which `bytes` must have at `offset`.
inline uint64_t readNumber(std::string_view bytes, size_t offset, int count) {
  uint64_t value = 0;
  for (int i = 0; i < count; ++i)
    value |= uint64_t(static_cast<uint8_t>(bytes[offset + i])) << (8 * i);
  return value;
}

} // namespace winnow
