// Program images as bytes: one self-contained file, used by the cache, by `--emit image` and by
// `winnow run --image`.
//
//   8 bytes   magic "WINNOWPI"
//   u32       schema, u32 zero            (all numbers little-endian)
//   u64       size of the metadata, u64 size of the packed payload, u64 size of the payload
//   unpacked 32 bytes  SHA-256 of the 40 bytes above, the metadata and the packed payload metadata
//   JSON text, readable with `head -c`: spec, config, recipe, one entry per kernel payload   zstd
//   of every kernel's cubin and source, one after the other; the metadata has their lengths
//
// A reader takes nothing on trust: any mismatch is an error and, in the cache, a miss (faults F05,
// F06, F12).
#pragma once
#include "runtime/program/ProgramImage.h"
#include <string>
#include <string_view>

namespace winnow {

/// Raised whenever the meaning of the bytes changes; other schemas are refused.
inline constexpr uint32_t kImageSchema = 2;
/// What is read at most of an image: far above any real one, which has less than one MiB.
inline constexpr uint64_t kMaxImageBytes = uint64_t(256) << 20;

/// Whether `image` could be launched: names, formulas, launch bounds, and for each kernel a whole
/// ELF file or PTX text. Error: CompileFailed, naming the kernel. Nothing that fails this is ever
/// published.
Status checkImage(const ProgramImage &image);
/// Whether a kernel's code is PTX text rather than a cubin.
bool isPtx(const Kernel &kernel);

/// The bytes of a checked image. Error: as checkImage.
Result<std::string> serializeImage(const ProgramImage &image);
/// Inverse of serializeImage. Error: Usage, saying what is wrong with the bytes.
Result<ProgramImage> deserializeImage(std::string_view bytes);

/// Writes one image to `path`, whole or not at all. Errors: checkImage's; Usage when the file
/// cannot be written.
Status saveImageFile(const ProgramImage &image, const std::string &path);
/// Reads the file that saveImageFile wrote. Error: Usage with the path.
Result<ProgramImage> loadImageFile(const std::string &path);

} // namespace winnow
