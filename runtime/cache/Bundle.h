// Many program images in one file, to be shipped beside an engine or inside its binary; made by
// `winnow cache export`.
//
//   8 bytes   magic "WINNOWBN"
//   u32       schema, u32 zero            (all numbers little-endian)
//   u64       number of entries
//   32 bytes  SHA-256 of the 24 bytes above and the index
//   index     per entry, ascending by key: 32 bytes key, u64 offset in the file, u64 size
//   entries   each the bytes of an image file, with a digest of its own (see ImageFormat.h)
//
// The index is checked when a bundle is opened, an entry when it is read: one broken entry costs
// no other. Files are read, not mapped: a mapped file that somebody shortens kills its readers.
#pragma once
#include "runtime/cache/Files.h"
#include <map>
#include <memory>
#include <vector>

namespace winnow {

class Bundle {
public:
  /// Opens a bundle file and reads its index. `info` is what the open file says about itself, for
  /// the caller's check of its owner. Error: Usage, saying what is wrong with the file.
  static Result<std::shared_ptr<const Bundle>> open(Files &files, const std::string &path,
                                                    struct stat &info);
  /// A bundle in memory, which must stay there. Error: as open.
  static Result<std::shared_ptr<const Bundle>> open(std::string_view memory);
  ~Bundle();
  Bundle(const Bundle &) = delete;
  Bundle &operator=(const Bundle &) = delete;

  struct Entry {
    std::string key;
    uint64_t offset = 0, size = 0;
  };
  /// Ascending by key.
  const std::vector<Entry> &entries() const { return index; }
  const Entry *find(const std::string &key) const;
  /// An entry's bytes, in `buffer` or in the memory of the bundle. Error: Usage.
  Result<std::string_view> read(const Entry &entry, std::string &buffer) const;

private:
  Bundle() = default;
  Status readIndex(uint64_t totalBytes);
  int readRange(uint64_t offset, uint64_t bytes, std::string &buffer) const;

  Files *files = nullptr;
  int file = -1;
  std::string_view memory;
  std::vector<Entry> index;
};

/// Writes the images' bytes, by key, as one bundle: whole or not at all, readable by everybody.
/// Errors: Usage when the file cannot be written or a key is no SHA-256 digest.
Status writeBundle(Files &files, const std::string &path,
                   const std::map<std::string, std::string> &images);

} // namespace winnow
