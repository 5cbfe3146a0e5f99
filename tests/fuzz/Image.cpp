// Program images. Three readings of the input: as an image file; as one whose digest has been
// mended, which a flipped bit would spoil; and as metadata, a zero byte and code, packed into an
// image file here.
#include "runtime/cache/Digest.h"
#include "runtime/cache/LittleEndian.h"
#include "runtime/program/ImageFormat.h"
#include "tests/fuzz/Fuzz.h"
#include <algorithm>
#include <zstd.h>

using namespace winnow;
using namespace winnow::fuzz;

namespace {

constexpr size_t kFixedBytes = 40, kDigestBytes = 32; // see ImageFormat.h

void read(std::string_view bytes) {
  Result<ProgramImage> image = deserializeImage(bytes);
  if (!image)
    return;
  countAccepted();
  require(checkImage(*image).has_value(), "an image that was read can be launched");
  Result<std::string> written = serializeImage(*image);
  require(written.has_value(), "an image that was read can be written");
  Result<ProgramImage> again = deserializeImage(*written);
  require(again.has_value(), "and read again");
  Result<std::string> same = serializeImage(*again);
  require(same && *same == *written, "what was read is written as the same bytes");
}

void mendDigest(std::string &bytes) {
  Sha256 sha;
  sha.update(std::string_view(bytes).substr(0, kFixedBytes));
  sha.update(std::string_view(bytes).substr(kFixedBytes + kDigestBytes));
  std::array<uint8_t, 32> digest = sha.finish();
  std::copy(digest.begin(), digest.end(), bytes.begin() + kFixedBytes);
}

} // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view input = textOf(data, size);
  read(input);
  if (size > kFixedBytes + kDigestBytes) {
    std::string mended(input);
    mendDigest(mended);
    read(mended);
  }
  std::string_view code = input, metadata = takePart(code, '\0');
  std::string packed(ZSTD_compressBound(code.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), code.data(), code.size(), 1));
  std::string bytes = "WINNOWPI";
  appendNumber(bytes, kImageSchema, 4);
  appendNumber(bytes, 0, 4);
  appendNumber(bytes, metadata.size(), 8);
  appendNumber(bytes, packed.size(), 8);
  appendNumber(bytes, code.size(), 8);
  bytes += std::string(kDigestBytes, '\0') + std::string(metadata) + packed;
  mendDigest(bytes);
  read(bytes);
  return 0;
}
