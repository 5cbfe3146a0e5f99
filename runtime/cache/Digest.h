// SHA-256 (FIPS 180-4) and the cache key made with it. Keys hold content only: no paths, times or
// environment (F08).
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace winnow {

class Sha256 {
public:
  Sha256();
  void update(std::string_view bytes);
  /// The digest of everything so far. Call once.
  std::array<uint8_t, 32> finish();

private:
  void block(const uint8_t *bytes);
  std::array<uint32_t, 8> state;
  std::array<uint8_t, 64> pending;
  size_t pendingSize = 0;
  uint64_t totalSize = 0;
};

/// 64 lower-case hexadecimal digits.
std::string sha256Hex(std::string_view bytes);

/// The named parts that decide the bytes of a program.
using KeyIngredients = std::map<std::string, std::string>;
/// 64 hexadecimal digits: the name of the program in the cache. Lengths are part of the digested
/// text, so two different lists of parts never give the same text.
std::string keyFrom(const KeyIngredients &ingredients);

} // namespace winnow
