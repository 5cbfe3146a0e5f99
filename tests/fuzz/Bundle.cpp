// Bundles, in memory and as a file: both readings agree. The digest of the index is mended first,
// which a flipped bit would spoil.
#include "runtime/cache/Bundle.h"
#include "runtime/cache/Digest.h"
#include "runtime/cache/LittleEndian.h"
#include "runtime/program/ImageFormat.h"
#include "tests/fuzz/Fuzz.h"
#include <algorithm>

using namespace winnow;
using namespace winnow::fuzz;

namespace {

constexpr size_t kFixedBytes = 24, kDigestBytes = 32, kEntryBytes = 48; // see Bundle.h

void mendDigest(std::string &bytes) {
  if (bytes.size() < kFixedBytes + kDigestBytes)
    return;
  std::string_view all = bytes, rest = all.substr(kFixedBytes + kDigestBytes);
  Sha256 sha;
  sha.update(all.substr(0, kFixedBytes));
  sha.update(rest.substr(0, std::min<uint64_t>(readNumber(all, 16, 8), rest.size() / kEntryBytes) *
                                kEntryBytes));
  std::array<uint8_t, 32> digest = sha.finish();
  std::copy(digest.begin(), digest.end(), bytes.begin() + kFixedBytes);
}

void read(std::string_view bytes) {
  Result<std::shared_ptr<const Bundle>> bundle = Bundle::open(bytes);
  MemoryFile file(bytes);
  struct stat info{};
  Result<std::shared_ptr<const Bundle>> fromFile = Bundle::open(systemFiles(), file.path(), info);
  require(bundle.has_value() == fromFile.has_value(), "memory and file are read alike");
  if (!bundle)
    return;
  countAccepted();
  require((*bundle)->entries().size() == (*fromFile)->entries().size(), "and have equal entries");
  for (const Bundle::Entry &entry : (*bundle)->entries()) {
    require((*bundle)->find(entry.key) == &entry, "every entry is found by its key");
    std::string buffer, fileBuffer;
    Result<std::string_view> content = (*bundle)->read(entry, buffer);
    Result<std::string_view> same = (*fromFile)->read(entry, fileBuffer);
    require(content.has_value() == same.has_value(), "entries of memory and file are read alike");
    if (!content)
      continue;
    require(*content == *same && content->size() == entry.size,
            "an entry is as long as its index says");
    if (Result<ProgramImage> image = deserializeImage(*content))
      require(checkImage(*image).has_value(), "an image that was read can be launched");
  }
}

} // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string bytes(textOf(data, size));
  read(bytes);
  mendDigest(bytes);
  read(bytes);
  return 0;
}
