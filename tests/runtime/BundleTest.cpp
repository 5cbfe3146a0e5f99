// Bundles: many programs in one file or in memory, as trustworthy as a read-only directory, and
// never in the way when damaged (F06, F08, F12, F23, F38).
#include "runtime/cache/Bundle.h"
#include "TestSupport.h"
#include "runtime/cache/Digest.h"
#include <algorithm>
#include <array>
#include <cerrno>
#include <sys/stat.h>
#include <unistd.h>

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr int kPrograms = 20;

std::map<std::string, std::string> samples() {
  std::map<std::string, std::string> images;
  for (int i = 0; i < kPrograms; ++i)
    images[sampleImage(std::to_string(i)).key] = *serializeImage(sampleImage(std::to_string(i)));
  return images;
}

std::string sampleBundle(const TempDir &dir) {
  EXPECT_TRUE(writeBundle(systemFiles(), dir / "bundle", samples()));
  return dir / "bundle";
}

CacheOptions withBundle(const std::string &path, std::vector<std::string> *warnings = nullptr) {
  CacheOptions options = cacheAt("", warnings);
  options.bundles = {path};
  return options;
}

int hits(Cache &cache) {
  int found = 0;
  for (int i = 0; i < kPrograms; ++i)
    found += cache.load(sampleImage(std::to_string(i)).key).has_value();
  return found;
}

TEST(Bundle, ServesAllItsProgramsFromFileAndMemory) {
  TempDir dir;
  const std::string path = sampleBundle(dir), bytes = readBytes(path);
  std::vector<std::string> warnings;
  Cache fromFile(withBundle(path, &warnings));
  EXPECT_EQ(hits(fromFile), kPrograms);
  EXPECT_EQ(fromFile.entries().size(), size_t(kPrograms));
  EXPECT_FALSE(fromFile.load(sampleImage("none").key));
  CacheOptions options = cacheAt("", &warnings);
  options.bundleMemory = {bytes};
  Cache fromMemory(options);
  EXPECT_EQ(hits(fromMemory), kPrograms);
  EXPECT_TRUE(
      sameImage(*fromMemory.load(sampleImage("7").key), *fromFile.load(sampleImage("7").key)));
  EXPECT_TRUE(fromMemory.find([](const ProgramImage &image) { return image.method == "sample"; }));
  EXPECT_TRUE(warnings.empty());
}

TEST(Bundle, F08TheSameProgramsGiveTheSameBytesWhereverTheyLie) {
  TempDir dir;
  const std::string path = sampleBundle(dir), first = readBytes(path);
  std::filesystem::create_directories(dir / "elsewhere");
  ASSERT_TRUE(writeBundle(systemFiles(), dir / "elsewhere/b", samples()));
  EXPECT_EQ(readBytes(dir / "elsewhere/b"), first);
  Cache moved(withBundle(dir / "elsewhere/b"));
  EXPECT_EQ(hits(moved), kPrograms);
}

TEST(Bundle, F06ADamagedEntryCostsNoOther) {
  TempDir dir;
  const std::string path = sampleBundle(dir);
  std::string bytes = readBytes(path);
  bytes[bytes.size() - 5] ^= 1; // in the last entry's code
  writeBytes(path, bytes);
  std::vector<std::string> warnings;
  Cache cache(withBundle(path, &warnings));
  EXPECT_EQ(hits(cache), kPrograms - 1);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("are dropped: not a usable program image"), std::string::npos)
      << warnings[0];
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST(Bundle, F06ADamagedHeaderOrIndexIsAMissToldOnce) {
  TempDir dir;
  const std::string path = sampleBundle(dir), whole = readBytes(path);
  std::vector<std::string> damaged = {"", "WINNOWBN", whole.substr(0, 60),
                                      whole.substr(0, whole.size() / 2),
                                      whole.substr(0, whole.size() - 1)};
  for (size_t at = 0; at < 56 + 48 * kPrograms; at += 3) {
    damaged.push_back(whole);
    damaged.back()[at] ^= 1;
  }
  damaged.push_back(whole);
  damaged.back().replace(16, 8, 8, '\xff'); // a count that nothing may be allocated by
  for (const std::string &bytes : damaged) {
    writeBytes(path, bytes);
    std::vector<std::string> warnings;
    Cache cache(withBundle(path, &warnings));
    EXPECT_EQ(hits(cache), 0);
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_FALSE(Bundle::open(std::string_view(bytes)));
  }
}

/// A bundle with a digest that fits what `change` did to its index: from hands that mean it.
TEST(Bundle, F06AnIndexThatIsNoneIsRefusedWhateverItsDigest) {
  constexpr size_t kFixed = 24, kHeader = 56, kEntry = 48, kOffset = 32, kSize = 40;
  TempDir dir;
  const std::string whole = readBytes(sampleBundle(dir));
  auto opens = [&](const std::function<void(std::string & bytes)> &change) {
    std::string bytes = whole;
    change(bytes);
    Sha256 sha;
    sha.update(std::string_view(bytes).substr(0, kFixed));
    sha.update(std::string_view(bytes).substr(kHeader, kPrograms * kEntry));
    const std::array<uint8_t, 32> digest = sha.finish();
    bytes.replace(kFixed, digest.size(), std::string(digest.begin(), digest.end()));
    return static_cast<bool>(Bundle::open(bytes));
  };
  auto number = [](std::string &bytes, size_t at, int64_t add) {
    uint64_t value = 0;
    for (size_t i = 0; i < 8; ++i)
      value |= static_cast<uint64_t>(static_cast<uint8_t>(bytes[at + i])) << (8 * i);
    value += static_cast<uint64_t>(add);
    for (size_t i = 0; i < 8; ++i)
      bytes[at + i] = static_cast<char>(value >> (8 * i));
  };
  const size_t last = kHeader + (kPrograms - 1) * kEntry;
  EXPECT_TRUE(opens([](std::string &) {}));
  EXPECT_FALSE(opens([&](std::string &bytes) { // the same program twice
    bytes.replace(kHeader + kEntry, 32, bytes.substr(kHeader, 32));
  }));
  EXPECT_FALSE(opens([&](std::string &bytes) { // not in order
    std::swap_ranges(bytes.begin() + kHeader, bytes.begin() + kHeader + 32,
                     bytes.begin() + kHeader + kEntry);
  }));
  EXPECT_FALSE(opens([&](std::string &bytes) { number(bytes, last + kSize, 1); }));
  EXPECT_TRUE(opens([&](std::string &bytes) { number(bytes, last + kSize, -1); }));
  EXPECT_FALSE(opens([&](std::string &bytes) { number(bytes, last + kOffset, 1); }));
  EXPECT_FALSE(opens([&](std::string &bytes) { number(bytes, kHeader + kOffset, -1); }));
  EXPECT_FALSE(opens([&](std::string &bytes) { number(bytes, last + kSize, INT64_MAX); }));
  EXPECT_FALSE(opens([&](std::string &bytes) { number(bytes, last + kOffset, INT64_MAX); }));
}

TEST(Bundle, F06AFileThatIsShortenedWhileOpenIsAMiss) {
  TempDir dir;
  const std::string path = sampleBundle(dir);
  std::vector<std::string> warnings;
  Cache cache(withBundle(path, &warnings));
  EXPECT_EQ(hits(cache), kPrograms);
  ASSERT_EQ(truncate(path.c_str(), 100), 0);
  EXPECT_EQ(hits(cache), 0); // a mapped file would end the process here
  EXPECT_EQ(warnings.size(), 1u);
}

TEST(Bundle, F12AnotherSchemaIsRefusedInWords) {
  TempDir dir;
  std::string bytes = readBytes(sampleBundle(dir));
  bytes[8] = 9;
  auto bundle = Bundle::open(std::string_view(bytes));
  ASSERT_FALSE(bundle);
  EXPECT_NE(bundle.error().message.find("it has schema 9, this build reads 1"), std::string::npos);
}

TEST(Bundle, F23MissingAndUnreadableBundlesAreMisses) {
  TempDir dir;
  std::vector<std::string> warnings;
  Cache missing(withBundle(dir / "none", &warnings));
  EXPECT_EQ(hits(missing), 0);
  EXPECT_EQ(warnings.size(), 1u); // somebody named it
  Cache directory(withBundle(dir.path, &warnings));
  EXPECT_EQ(hits(directory), 0);
  EXPECT_EQ(warnings.size(), 2u);
  ASSERT_EQ(mkfifo((dir / "fifo").c_str(), 0600), 0);
  Cache fifo(withBundle(dir / "fifo", &warnings));
  EXPECT_EQ(hits(fifo), 0); // and does not hang
  EXPECT_FALSE(writeBundle(systemFiles(), dir / "no/such/place", samples()));
}

TEST(Bundle, F38BundlesThatOthersCanWriteAreNotUsed) {
  TempDir dir;
  const std::string path = sampleBundle(dir);
  struct stat info{};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0022, 0u);
  std::vector<std::string> warnings;
  for (mode_t mode : {0664, 0646}) {
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
    Cache cache(withBundle(path, &warnings));
    EXPECT_EQ(hits(cache), 0);
  }
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_NE(warnings[0].find("can be written by others"), std::string::npos) << warnings[0];
  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  if (geteuid() == 0) {
    ASSERT_EQ(chown(path.c_str(), 65534, 65534), 0);
    Cache planted(withBundle(path, &warnings));
    EXPECT_EQ(hits(planted), 0);
    EXPECT_EQ(warnings.size(), 3u);
  }
}

} // namespace
