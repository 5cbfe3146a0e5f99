// SHA-256, plain and portable, and by the processor's own instructions where it has them: a cache
// hit digests the whole image. A dependency would cost more than these lines.
#include "runtime/cache/Digest.h"
#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace winnow {

namespace {

constexpr std::array<uint32_t, 64> kRound = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t rotate(uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

#if defined(__x86_64__)
/// Whether this processor has the SHA extensions (CPUID leaf 7, EBX bit 29) and SSE4.1.
bool hasShaInstructions() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (b & (1u << 29)) == 0)
    return false;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_1) != 0;
}

/// `count` blocks by SHA256RNDS2 and its companions, four rounds a step (Intel, "Intel SHA
/// Extensions", 2013). The instructions keep the state as ABEF and CDGH.
__attribute__((target("sha,sse4.1"))) void hashBlocks(std::array<uint32_t, 8> &state,
                                                      const uint8_t *bytes, size_t count) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  auto word = [&](const void *at) { return _mm_loadu_si128(static_cast<const __m128i *>(at)); };
  __m128i cdab = _mm_shuffle_epi32(word(&state[0]), 0xb1);
  __m128i efgh = _mm_shuffle_epi32(word(&state[4]), 0x1b);
  __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
  for (; count > 0; --count, bytes += 64) {
    const __m128i abefBefore = abef, cdghBefore = cdgh;
    __m128i w[4];
    for (int i = 0; i < 4; ++i)
      w[i] = _mm_shuffle_epi8(word(bytes + 16 * i), swap);
    for (int step = 0; step < 16; ++step) {
      const __m128i sum = _mm_add_epi32(w[step % 4], word(&kRound[4 * step]));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
      // Words 16 rounds on, in place of those just used.
      const __m128i &next = w[(step + 1) % 4], &third = w[(step + 2) % 4],
                    &last = w[(step + 3) % 4];
      w[step % 4] = _mm_sha256msg2_epu32(
          _mm_add_epi32(_mm_sha256msg1_epu32(w[step % 4], next), _mm_alignr_epi8(last, third, 4)),
          last);
    }
    abef = _mm_add_epi32(abef, abefBefore);
    cdgh = _mm_add_epi32(cdgh, cdghBefore);
  }
  const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
  _mm_storeu_si128(reinterpret_cast<__m128i *>(&state[0]), _mm_blend_epi16(feba, dchg, 0xf0));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(&state[4]), _mm_alignr_epi8(dchg, feba, 8));
}
#else
bool hasShaInstructions() { return false; }
void hashBlocks(std::array<uint32_t, 8> &, const uint8_t *, size_t) {}
#endif

} // namespace

Sha256::Sha256()
    : state{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
            0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19},
      pending{} {}

void Sha256::block(const uint8_t *bytes) {
  std::array<uint32_t, 64> w;
  for (int i = 0; i < 16; ++i)
    w[i] = uint32_t(bytes[4 * i]) << 24 | uint32_t(bytes[4 * i + 1]) << 16 |
           uint32_t(bytes[4 * i + 2]) << 8 | bytes[4 * i + 3];
  for (int i = 16; i < 64; ++i) {
    uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ (w[i - 15] >> 3);
    uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ (w[i - 2] >> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (int i = 0; i < 64; ++i) {
    uint32_t s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
    uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + kRound[i] + w[i];
    uint32_t s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
    uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  const std::array<uint32_t, 8> added = {a, b, c, d, e, f, g, h};
  for (int i = 0; i < 8; ++i)
    state[i] += added[i];
}

void Sha256::update(std::string_view bytes) {
  totalSize += bytes.size();
  const auto *data = reinterpret_cast<const uint8_t *>(bytes.data());
  size_t left = bytes.size();
  if (pendingSize > 0) {
    size_t taken = std::min(left, pending.size() - pendingSize);
    std::memcpy(pending.data() + pendingSize, data, taken);
    pendingSize += taken, data += taken, left -= taken;
    if (pendingSize < pending.size())
      return;
    block(pending.data());
    pendingSize = 0;
  }
  static const bool byInstructions = hasShaInstructions();
  if (byInstructions) {
    hashBlocks(state, data, left / 64);
    data += left / 64 * 64, left %= 64;
  }
  for (; left >= 64; data += 64, left -= 64)
    block(data);
  if (left > 0)
    std::memcpy(pending.data(), data, left);
  pendingSize = left;
}

std::array<uint8_t, 32> Sha256::finish() {
  uint64_t bits = totalSize * 8;
  std::string padding(1, '\x80');
  while ((totalSize + padding.size()) % 64 != 56)
    padding += '\0';
  for (int shift = 56; shift >= 0; shift -= 8)
    padding += static_cast<char>(bits >> shift);
  update(padding);
  std::array<uint8_t, 32> digest;
  for (int i = 0; i < 32; ++i)
    digest[i] = static_cast<uint8_t>(state[i / 4] >> (24 - 8 * (i % 4)));
  return digest;
}

std::string sha256Hex(std::string_view bytes) {
  Sha256 sha;
  sha.update(bytes);
  std::string hex;
  for (uint8_t byte : sha.finish())
    hex += fmt::format("{:02x}", byte);
  return hex;
}

std::string keyFrom(const KeyIngredients &ingredients) {
  std::string text;
  for (const auto &[part, content] : ingredients)
    text += fmt::format("{}:{}:{}\n", part, content.size(), content);
  return sha256Hex(text);
}

} // namespace winnow
