// Reads the few ELF sections that hold a kernel's resource use; every offset is checked against the
// file's size.
#include "compiler/cuda/CubinInfo.h"
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <elf.h>
#include <limits>

namespace winnow {
namespace {

constexpr uint8_t kFrameSize = 0x11, kRegisterCount = 0x2f; ///< EIATTR_FRAME_SIZE, EIATTR_REGCOUNT
constexpr uint8_t kFormatSized = 4; ///< EIFMT_SVAL: a 16-bit size and a payload

class Reader {
public:
  explicit Reader(std::string_view elf) : elf(elf) {}

  template <typename T> std::optional<T> at(size_t offset) const {
    T value;
    if (offset > elf.size() || elf.size() - offset < sizeof(T))
      return std::nullopt;
    std::memcpy(&value, elf.data() + offset, sizeof(T));
    return value;
  }
  /// Whether the text at an offset is `expected`, its ending zero included.
  bool isText(size_t offset, const std::string &expected) const {
    return offset < elf.size() && elf.substr(offset, expected.size() + 1) ==
                                      std::string_view(expected.c_str(), expected.size() + 1);
  }
  /// The bytes of a section, as far as the file has them.
  std::string_view bytes(const Elf64_Shdr &section) const {
    return section.sh_offset > elf.size() ? std::string_view()
                                          : elf.substr(section.sh_offset, section.sh_size);
  }

private:
  std::string_view elf;
};

} // namespace

std::optional<CubinInfo> readCubinInfo(std::string_view elf, const std::string &name) {
  Reader reader(elf);
  auto header = reader.at<Elf64_Ehdr>(0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
    return std::nullopt;
  auto section = [&](unsigned i) {
    return reader.at<Elf64_Shdr>(header->e_shoff + i * sizeof(Elf64_Shdr));
  };
  auto names = section(header->e_shstrndx);
  if (!names)
    return std::nullopt;

  CubinInfo info;
  bool found = false;
  std::optional<Elf64_Shdr> symbols, strings, infos;
  for (unsigned i = 0; i < header->e_shnum; ++i) {
    auto s = section(i);
    if (!s)
      return std::nullopt;
    const size_t sectionName = names->sh_offset + s->sh_name;
    found |= reader.isText(sectionName, ".text." + name);
    if (reader.isText(sectionName, ".nv.shared." + name))
      info.staticSharedBytes =
          static_cast<int>(std::min<uint64_t>(s->sh_size, std::numeric_limits<int>::max()));
    if (s->sh_type == SHT_SYMTAB)
      symbols = s, strings = section(s->sh_link);
    if (reader.isText(sectionName, ".nv.info"))
      infos = s; // one for all kernels
  }
  if (!found || !symbols || !strings)
    return std::nullopt;
  auto isKernel = [&](uint32_t index) {
    auto symbol = reader.at<Elf64_Sym>(symbols->sh_offset + index * sizeof(Elf64_Sym));
    return symbol && reader.isText(strings->sh_offset + symbol->st_name, name);
  };
  const std::string_view attributes = infos ? reader.bytes(*infos) : std::string_view();
  const Reader entries(attributes);
  for (size_t offset = 0; offset < attributes.size();) {
    auto format = entries.at<uint8_t>(offset), attribute = entries.at<uint8_t>(offset + 1);
    auto sized = entries.at<uint16_t>(offset + 2);
    if (!format || !attribute || !sized)
      break;
    const size_t size = *format == kFormatSized ? *sized : 0;
    auto symbol = entries.at<uint32_t>(offset + 4), value = entries.at<uint32_t>(offset + 8);
    if (size >= 8 && symbol && value && isKernel(*symbol)) {
      if (*attribute == kRegisterCount)
        info.registers = static_cast<int>(*value);
      if (*attribute == kFrameSize)
        info.frameBytes = static_cast<int>(*value);
    }
    offset += 4 + size;
  }
  return info;
}

int spillBytes(const std::string &log) {
  // No std::regex here: it recurses once per digit. A number that leaves an int stands for more
  // than any kernel spills.
  auto numberBefore = [&](const char *words) {
    size_t end = log.find(words);
    if (end == std::string::npos)
      return 0;
    size_t begin = end;
    while (begin > 0 && log[begin - 1] >= '0' && log[begin - 1] <= '9')
      --begin;
    int value = 0;
    auto [last, code] = std::from_chars(log.data() + begin, log.data() + end, value);
    return code == std::errc::result_out_of_range ? std::numeric_limits<int>::max() : value;
  };
  return std::max(numberBefore(" bytes spill stores"), numberBefore(" bytes spill loads"));
}

} // namespace winnow
