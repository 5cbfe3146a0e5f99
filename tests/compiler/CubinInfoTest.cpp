// What is read from cubins, of files that claim more than they have: no size or offset of a file
// leads out of it, costs memory, or makes the reader run for ever.
#include "compiler/cuda/CubinInfo.h"
#include <chrono>
#include <cstring>
#include <elf.h>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <vector>

using namespace winnow;

namespace {

template <typename T> void append(std::string &bytes, const T &value) {
  bytes.append(reinterpret_cast<const char *>(&value), sizeof(value));
}

/// A cubin of one kernel "k" with 40 registers, 24 bytes of stack and 512 of shared memory.
struct SmallCubin {
  enum Section { Names = 1, Strings, Symbols, Info, Text, Shared };
  std::vector<Elf64_Shdr> sections = std::vector<Elf64_Shdr>(7);
  std::string content;

  SmallCubin() {
    const std::vector<const char *> names = {"",         ".shstrtab", ".strtab",     ".symtab",
                                             ".nv.info", ".text.k",   ".nv.shared.k"};
    std::string nameTable;
    for (size_t i = 0; i < names.size(); ++i) {
      sections[i].sh_name = static_cast<uint32_t>(nameTable.size());
      nameTable += names[i] + std::string(1, '\0');
    }
    Elf64_Sym symbols[2] = {};
    symbols[1].st_name = 1;
    std::string infos;
    for (auto [attribute, value] : {std::pair<uint8_t, uint32_t>(0x2f, 40), {0x11, 24}}) {
      append(infos, uint8_t(4)), append(infos, attribute), append(infos, uint16_t(8));
      append(infos, uint32_t(1)), append(infos, value);
    }
    put(Names, nameTable);
    put(Strings, std::string("\0k\0", 3));
    put(Symbols, std::string(reinterpret_cast<const char *>(symbols), sizeof(symbols)));
    put(Info, infos);
    put(Text, "code");
    sections[Symbols].sh_type = SHT_SYMTAB;
    sections[Symbols].sh_link = Strings;
    sections[Shared].sh_size = 512;
  }
  void put(Section section, const std::string &bytes) {
    sections[section].sh_offset = sizeof(Elf64_Ehdr) + content.size();
    sections[section].sh_size = bytes.size();
    content += bytes;
  }
  std::string bytes() const {
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_shoff = sizeof(header) + content.size();
    header.e_shnum = static_cast<uint16_t>(sections.size());
    header.e_shstrndx = Names;
    std::string file;
    append(file, header);
    file += content;
    for (const Elf64_Shdr &section : sections)
      append(file, section);
    return file;
  }
};

constexpr uint64_t kHuge[] = {uint64_t(1) << 32, uint64_t(1) << 62, UINT64_MAX - 3, UINT64_MAX};

TEST(CubinInfo, ReadsAFileThatIsWhole) {
  std::optional<CubinInfo> info = readCubinInfo(SmallCubin().bytes(), "k");
  ASSERT_TRUE(info);
  EXPECT_EQ(info->registers, 40);
  EXPECT_EQ(info->frameBytes, 24);
  EXPECT_EQ(info->staticSharedBytes, 512);
}

TEST(CubinInfo, SizesAndOffsetsThatAreOnlyClaimed) {
  const auto begin = std::chrono::steady_clock::now();
  for (size_t section = 0; section < 7; ++section)
    for (uint64_t huge : kHuge) {
      SmallCubin size, offset, name;
      size.sections[section].sh_size = huge;
      offset.sections[section].sh_offset = huge;
      name.sections[section].sh_name = static_cast<uint32_t>(huge);
      for (const SmallCubin &cubin : {size, offset, name})
        (void)readCubinInfo(cubin.bytes(), "k");
    }
  SmallCubin cubin;
  cubin.sections[SmallCubin::Info].sh_size = uint64_t(1) << 62;
  ASSERT_TRUE(readCubinInfo(cubin.bytes(), "k"));
  EXPECT_EQ(readCubinInfo(cubin.bytes(), "k")->registers, 40);
  cubin.sections[SmallCubin::Shared].sh_size = uint64_t(1) << 62;
  EXPECT_EQ(readCubinInfo(cubin.bytes(), "k")->staticSharedBytes, std::numeric_limits<int>::max());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

TEST(CubinInfo, FilesThatWereCutOrChanged) {
  const std::string good = SmallCubin().bytes();
  for (size_t size = 0; size < good.size(); ++size)
    (void)readCubinInfo(std::string(good, 0, size), "k"); // a copy: reading on is seen
  std::mt19937 random(10);
  for (int i = 0; i < 20000; ++i) {
    std::string bad = good;
    for (int n = 0; n < 3; ++n)
      bad[random() % bad.size()] = static_cast<char>(random());
    (void)readCubinInfo(bad, "k");
  }
}

TEST(CubinInfo, SpillsOfALogOfAnyKind) {
  EXPECT_EQ(spillBytes("ptxas info: 8 bytes stack frame, 12 bytes spill stores, 16 bytes spill "
                       "loads\nptxas info: Used 40 registers"),
            16);
  EXPECT_EQ(spillBytes(""), 0);
  EXPECT_EQ(spillBytes(" bytes spill stores, bytes spill loads"), 0);
  const std::string digits(1000000, '9'); // more than any kernel spills; and what recurses dies
  EXPECT_EQ(spillBytes(digits + " bytes spill stores, " + digits + " bytes spill loads"),
            std::numeric_limits<int>::max());
}

} // namespace
