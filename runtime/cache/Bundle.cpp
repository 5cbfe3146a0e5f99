// Reader and writer of bundles. Nothing in a file is taken on trust: sizes are checked against the
// file's own before anything is allocated by them.
#include "runtime/cache/Bundle.h"
#include "runtime/cache/Digest.h"
#include "runtime/cache/LittleEndian.h"
#include "runtime/program/ImageFormat.h"
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>

namespace winnow {

namespace {

constexpr std::string_view kMagic = "WINNOWBN";
constexpr uint32_t kSchema = 1;
constexpr uint64_t kFixedBytes = 24, kDigestBytes = 32, kHeaderBytes = kFixedBytes + kDigestBytes;
constexpr uint64_t kKeyBytes = 32, kEntryBytes = kKeyBytes + 16;
constexpr uint64_t kMaxEntries = uint64_t(1) << 20; // an index of 48 MiB

std::string digestOf(std::string_view fixed, std::string_view index) {
  Sha256 sha;
  sha.update(fixed);
  sha.update(index);
  std::array<uint8_t, 32> digest = sha.finish();
  return std::string(digest.begin(), digest.end());
}

std::string hexOf(std::string_view bytes) {
  std::string hex;
  for (char byte : bytes)
    hex += fmt::format("{:02x}", static_cast<uint8_t>(byte));
  return hex;
}

/// The 32 bytes of a key of 64 hexadecimal digits; empty for another text.
std::string bytesOf(const std::string &key) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  if (key.size() != 2 * kKeyBytes || key.find_first_not_of(kDigits) != std::string::npos)
    return "";
  std::string bytes;
  for (size_t i = 0; i < key.size(); i += 2)
    bytes += static_cast<char>(kDigits.find(key[i]) * 16 + kDigits.find(key[i + 1]));
  return bytes;
}

tl::unexpected<Error> invalid(const std::string &what) {
  return fail(ErrorKind::Usage, "not a usable bundle: " + what);
}

} // namespace

Result<std::shared_ptr<const Bundle>> Bundle::open(Files &files, const std::string &path,
                                                   struct stat &info) {
  std::shared_ptr<Bundle> bundle(new Bundle);
  bundle->files = &files;
  // O_NONBLOCK: a planted FIFO must not hang the reader before fstat can refuse it.
  bundle->file = files.open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
  if (bundle->file < 0 || ::fstat(bundle->file, &info) != 0)
    return fail(ErrorKind::Usage, fmt::format("cannot read {}: {}", path, std::strerror(errno)));
  if (!S_ISREG(info.st_mode))
    return invalid("it is no regular file");
  WINNOW_CHECK(bundle->readIndex(static_cast<uint64_t>(info.st_size)));
  return bundle;
}

Result<std::shared_ptr<const Bundle>> Bundle::open(std::string_view memory) {
  std::shared_ptr<Bundle> bundle(new Bundle);
  bundle->memory = memory;
  WINNOW_CHECK(bundle->readIndex(memory.size()));
  return bundle;
}

Bundle::~Bundle() {
  if (file >= 0)
    files->close(file);
}

/// Returns 0 or an errno; a file that ends early gives fewer bytes.
int Bundle::readRange(uint64_t offset, uint64_t bytes, std::string &buffer) const {
  buffer.resize(bytes);
  uint64_t done = 0;
  while (done < bytes) {
    ssize_t got =
        files->readAt(file, buffer.data() + done, bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return errno;
    if (got == 0)
      break;
    done += static_cast<uint64_t>(got);
  }
  buffer.resize(done);
  return 0;
}

Status Bundle::readIndex(uint64_t totalBytes) {
  auto part = [&](uint64_t offset, uint64_t bytes, std::string &buffer) -> std::string_view {
    if (offset > totalBytes || bytes > totalBytes - offset)
      return {};
    if (file < 0)
      return memory.substr(offset, bytes);
    return readRange(offset, bytes, buffer) == 0 ? std::string_view(buffer) : std::string_view();
  };
  std::string headerBuffer, indexBuffer;
  std::string_view header = part(0, kHeaderBytes, headerBuffer);
  if (header.size() != kHeaderBytes || header.substr(0, kMagic.size()) != kMagic)
    return invalid("it does not begin with the header of one");
  if (uint64_t schema = readNumber(header, 8, 4); schema != kSchema)
    return invalid(fmt::format("it has schema {}, this build reads {}", schema, kSchema));
  uint64_t count = readNumber(header, 16, 8);
  if (count > (totalBytes - kHeaderBytes) / kEntryBytes)
    return invalid("it is truncated");
  if (count > kMaxEntries)
    return invalid(fmt::format("it claims {} programs, at most {} are read", count, kMaxEntries));
  std::string_view bytes = part(kHeaderBytes, count * kEntryBytes, indexBuffer);
  if (bytes.size() != count * kEntryBytes ||
      digestOf(header.substr(0, kFixedBytes), bytes) != header.substr(kFixedBytes))
    return invalid("the digest of its index does not match");
  const uint64_t end = kHeaderBytes + count * kEntryBytes;
  for (uint64_t at = 0; at < bytes.size(); at += kEntryBytes) {
    Entry entry{hexOf(bytes.substr(at, kKeyBytes)), readNumber(bytes, at + kKeyBytes, 8),
                readNumber(bytes, at + kKeyBytes + 8, 8)};
    if (entry.offset < end || entry.offset > totalBytes || entry.size > totalBytes - entry.offset ||
        (!index.empty() && entry.key <= index.back().key))
      return invalid("it is truncated, or its index is out of order");
    index.push_back(std::move(entry));
  }
  return {};
}

const Bundle::Entry *Bundle::find(const std::string &key) const {
  auto it =
      std::lower_bound(index.begin(), index.end(), key,
                       [](const Entry &entry, const std::string &k) { return entry.key < k; });
  return it != index.end() && it->key == key ? &*it : nullptr;
}

Result<std::string_view> Bundle::read(const Entry &entry, std::string &buffer) const {
  if (entry.size > kMaxImageBytes)
    return fail(ErrorKind::Usage, fmt::format("{:.16}: {} bytes are too many for a program image",
                                              entry.key, entry.size));
  if (file < 0)
    return memory.substr(entry.offset, entry.size);
  if (int code = readRange(entry.offset, entry.size, buffer))
    return fail(ErrorKind::Usage, fmt::format("cannot read the bundle: {}", std::strerror(code)));
  return std::string_view(buffer);
}

Status writeBundle(Files &files, const std::string &path,
                   const std::map<std::string, std::string> &images) {
  std::string fixed(kMagic), index, entries;
  appendNumber(fixed, kSchema, 4);
  appendNumber(fixed, 0, 4);
  appendNumber(fixed, images.size(), 8);
  const uint64_t begin = kHeaderBytes + images.size() * kEntryBytes;
  for (const auto &[key, bytes] : images) {
    std::string raw = bytesOf(key);
    if (raw.empty())
      return fail(ErrorKind::Usage, fmt::format("'{}' is not a cache key", key));
    index += raw;
    appendNumber(index, begin + entries.size(), 8);
    appendNumber(index, bytes.size(), 8);
    entries += bytes;
  }
  // 0644 whatever the umask allows: a bundle that others could write is not trusted (F38).
  std::string whole = fixed + digestOf(fixed, index) + index + entries;
  return publishFile(files, path, whole, 0644);
}

} // namespace winnow
