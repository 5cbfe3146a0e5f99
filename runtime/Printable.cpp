// Reads UTF-8 character by character; what is cut off, overlong, a surrogate or beyond U+10FFFF is
// no character.
#include "runtime/Printable.h"
#include <cstdint>
#include <fmt/format.h>

namespace winnow {
namespace {

/// The length of the character at the front of `text`, and its code; 0 where there is none.
size_t characterAt(std::string_view text, uint32_t &code) {
  const auto first = static_cast<uint8_t>(text[0]);
  const size_t length = first < 0x80   ? 1
                        : first < 0xc2 ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                                       : 4;
  if (length <= 1) {
    code = first;
    return length;
  }
  if (first > 0xf4 || text.size() < length)
    return 0;
  code = first & (0x7fu >> length);
  for (char next : text.substr(1, length - 1)) {
    if ((next & 0xc0) != 0x80)
      return 0;
    code = code << 6 | (next & 0x3f);
  }
  const uint32_t least = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
  return code < least || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : length;
}

} // namespace

std::string printable(std::string_view text, bool keepLines) {
  std::string out;
  while (!text.empty()) {
    uint32_t code = 0;
    size_t length = characterAt(text, code);
    const bool isControl = code < 0x20 || (code >= 0x7f && code < 0xa0);
    const bool stays = length > 0 && (!isControl || (keepLines && (code == '\n' || code == '\t')));
    length = length > 0 ? length : 1;
    if (stays)
      out += text.substr(0, length);
    else
      for (char byte : text.substr(0, length))
        out += fmt::format("\\x{:02x}", static_cast<uint8_t>(byte));
    text.remove_prefix(length);
  }
  return out;
}

} // namespace winnow
