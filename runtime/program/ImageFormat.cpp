// Writer and reader of program images, and the checks that keep broken ones out of the cache.
#include "runtime/program/ImageFormat.h"
#include "runtime/JsonText.h"
#include "runtime/cache/Digest.h"
#include "runtime/cache/Files.h"
#include "runtime/cache/LittleEndian.h"
#include "runtime/program/Formula.h"
#include "templates/Params.h"
#include <cstring>
#include <elf.h>
#include <fmt/format.h>
#include <zstd.h>

namespace winnow {

namespace {

using nlohmann::json;

constexpr std::string_view kMagic = "WINNOWPI";
constexpr size_t kFixedBytes = 40, kDigestBytes = 32, kHeaderBytes = kFixedBytes + kDigestBytes;
// Far above any real program (one MiB of code, some KiB of metadata): what a file can ask for.
constexpr uint64_t kMaxPayload = uint64_t(64) << 20, kMaxMetadata = uint64_t(4) << 20;
constexpr uint64_t kMaxBlock = 128 << 10, kMinPacked = 4; // of a zstd block (RFC 8878): its largest
                                                          // content, its fewest bytes
constexpr int kCompression = 3;

/// A cubin is whole when its ELF header and section table lie within it.
bool isWholeElf(const std::string &bytes) {
  Elf64_Ehdr header;
  if (bytes.size() < sizeof(header) || std::memcmp(bytes.data(), ELFMAG, SELFMAG) != 0)
    return false;
  std::memcpy(&header, bytes.data(), sizeof(header));
  uint64_t table = uint64_t(header.e_shentsize) * header.e_shnum;
  return header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_shoff <= bytes.size() &&
         table <= bytes.size() - header.e_shoff;
}

Status broken(const std::string &what) { return fail(ErrorKind::CompileFailed, what); }

Status checkFormula(const std::string &owner, const char *field, const std::string &text,
                    Variable lastKnown) {
  Result<Formula> formula = Formula::parse(text, lastKnown);
  return formula ? Status()
                 : broken(fmt::format("{}, {}: {}", owner, field, formula.error().message));
}

json buffersToJson(const std::vector<Buffer> &buffers) {
  json entries = json::array();
  for (const Buffer &buffer : buffers)
    entries.push_back({{"name", buffer.name}, {"bytes", buffer.bytes}});
  return entries;
}

json mapsToJson(const std::vector<TensorMapRecipe> &maps) {
  json entries = json::array();
  for (const TensorMapRecipe &map : maps)
    entries.push_back({{"tensor", map.tensor},
                       {"extents", map.extents},
                       {"strides", map.strides},
                       {"box", map.box}});
  return entries;
}

json toJson(const ProgramImage &image) {
  json kernels = json::array();
  for (const Kernel &k : image.kernels) {
    kernels.push_back({{"name", k.name},
                       {"step", k.step},
                       {"when", k.when},
                       {"grid_x", k.gridX},
                       {"grid_y", k.gridY},
                       {"block_threads", k.blockThreads},
                       {"shared_bytes", k.sharedBytes},
                       {"per_chunk", k.perChunk},
                       {"registers", k.registers},
                       {"spill_bytes", k.spillBytes},
                       {"static_shared_bytes", k.staticSharedBytes},
                       {"compile_ms", k.compileMs},
                       {"cubin_size", k.cubin.size()},
                       {"source_size", k.source.size()}});
    if (k.inClusters)
      kernels.back()["in_clusters"] = true;
    if (k.cooperative)
      kernels.back()["cooperative"] = true;
    if (k.early)
      kernels.back()["early"] = true;
    for (const FactField &field : factFields())
      if (const KernelFacts::Fact &fact = k.facts.*field.member)
        kernels.back()["facts"][field.name] = *fact;
  }
  const Spec &s = image.spec;
  json root = {{"method", image.method},
               {"key", image.key},
               {"arch", image.arch},
               {"spec",
                {{"heads", s.heads},
                 {"kv_heads", s.kvHeads},
                 {"head_dim", s.headDim},
                 {"value_dim", s.valueWidth()},
                 {"block", s.block},
                 {"topk", s.topk},
                 {"dtype", name(s.dtype)},
                 {"scale", s.scale},
                 {"params", s.params}}},
               {"config", image.config.text()},
               {"select_heads", image.selectHeads},
               {"score_stride", image.scoreStride},
               {"chunk_tokens", image.chunkTokens},
               {"buffers", buffersToJson(image.buffers)},
               {"tensor_maps", mapsToJson(image.tensorMaps)},
               {"kernels", kernels},
               {"mlir_ms", image.mlirMs}};
  if (s.paged)
    root["spec"]["paged"] = true;
  if (s.kvDtype != KvDtype::Same)
    root["spec"]["kv_dtype"] = name(s.kvDtype);
  if (s.backward) {
    root["spec"]["backward"] = true;
    root["backward_buffers"] = buffersToJson(image.backwardBuffers);
    root["backward_maps"] = mapsToJson(image.backwardMaps);
    if (!image.backwardChunkTokens.empty())
      root["backward_chunk_tokens"] = image.backwardChunkTokens;
  }
  if (!image.denseLength.empty())
    root["dense_length"] = image.denseLength;
  if (!image.parts.empty())
    root["parts"] = image.parts;
  if (!image.cluster.empty())
    root["cluster"] = image.cluster;
  if (!image.step.empty())
    root["decode_step"] = image.step;
  if (!image.ingredients.empty())
    root["ingredients"] = image.ingredients;
  if (!image.defaults.empty())
    root["defaults"] = image.defaults;
  for (const SummaryShape &summary : image.summaries)
    root["summaries"].push_back({{"window", summary.window}, {"stride", summary.stride}});
  return root;
}

/// Typed access to JSON that never throws: a missing or mistyped field sets `ok` to false.
struct Reader {
  bool ok = true;
  const json &child(const json &object, const char *field) {
    static const json &none = *new json; // never destroyed: see Spec.cpp
    if (object.is_object())
      if (auto it = object.find(field); it != object.end())
        return *it;
    ok = false;
    return none;
  }
  void read(const json &object, const char *field, std::string &out) {
    const json &value = child(object, field);
    value.is_string() ? void(out = value.get<std::string>()) : void(ok = false);
  }
  void read(const json &object, const char *field, bool &out) {
    const json &value = child(object, field);
    value.is_boolean() ? void(out = value.get<bool>()) : void(ok = false);
  }
  void read(const json &object, const char *field, double &out) {
    const json &value = child(object, field);
    value.is_number() ? void(out = value.get<double>()) : void(ok = false);
  }
  template <typename Element>
  void read(const json &object, const char *field, std::vector<Element> &out) {
    for (const json &value : child(object, field)) {
      Element &element = out.emplace_back();
      if constexpr (std::is_integral_v<Element>)
        value.is_number_integer() ? void(element = value.get<Element>()) : void(ok = false);
      else
        value.is_string() ? void(element = value.get<Element>()) : void(ok = false);
    }
  }
  template <typename Int, typename = std::enable_if_t<std::is_integral_v<Int>>>
  void read(const json &object, const char *field, Int &out) {
    const json &value = child(object, field);
    if (value.is_number_integer()) {
      int64_t wide = value.get<int64_t>();
      out = static_cast<Int>(wide);
      ok = ok && static_cast<int64_t>(out) == wide && wide >= 0;
    } else {
      ok = false;
    }
  }
};

bool fromJson(const json &root, ProgramImage &image,
              std::vector<std::pair<size_t, size_t>> &sizes) {
  Reader r;
  r.read(root, "method", image.method);
  r.read(root, "key", image.key);
  r.read(root, "arch", image.arch);
  const json &spec = r.child(root, "spec");
  r.read(spec, "heads", image.spec.heads);
  r.read(spec, "kv_heads", image.spec.kvHeads);
  r.read(spec, "head_dim", image.spec.headDim);
  r.read(spec, "value_dim", image.spec.valueDim);
  r.read(spec, "block", image.spec.block);
  r.read(spec, "topk", image.spec.topk);
  r.read(spec, "scale", image.spec.scale);
  if (spec.contains("paged")) // packed programs go without, as all older ones do
    r.read(spec, "paged", image.spec.paged);
  if (spec.contains("backward")) // likewise
    r.read(spec, "backward", image.spec.backward);
  if (spec.contains("kv_dtype")) { // likewise
    std::string word;
    r.read(spec, "kv_dtype", word);
    Result<KvDtype> kv = parseKvDtype(word);
    image.spec.kvDtype = kv.value_or(KvDtype::Same);
    r.ok = r.ok && kv;
  }
  std::string text;
  r.read(spec, "dtype", text);
  if (Result<Dtype> dtype = parseDtype(text))
    image.spec.dtype = *dtype;
  else
    r.ok = false;
  for (const auto &[param, value] : r.child(spec, "params").items())
    value.is_string() ? void(image.spec.params[param] = value.get<std::string>())
                      : void(r.ok = false);
  r.ok = r.ok && image.spec.check();
  // Older files of this schema go without: `ingredients` are written since the cache explains its
  // misses, `defaults` since programs are found without a compiler by what they are, `facts` of
  // kernels since the performance model reads them.
  auto readLater = [&](const char *field, std::map<std::string, std::string> &out) {
    if (auto it = root.find(field); it != root.end())
      for (const auto &[name, content] : it->items())
        content.is_string() ? void(out[name] = content.get<std::string>()) : void(r.ok = false);
  };
  readLater("ingredients", image.ingredients);
  readLater("defaults", image.defaults);
  if (root.contains("dense_length"))
    r.read(root, "dense_length", image.denseLength);
  if (root.contains("parts"))
    r.read(root, "parts", image.parts);
  if (root.contains("cluster"))
    r.read(root, "cluster", image.cluster);
  if (root.contains("decode_step"))
    r.read(root, "decode_step", image.step);
  if (auto summaries = root.find("summaries"); summaries != root.end())
    for (const json &entry : *summaries) {
      SummaryShape &summary = image.summaries.emplace_back();
      r.read(entry, "window", summary.window);
      r.read(entry, "stride", summary.stride);
    }
  r.read(root, "config", text);
  if (Result<Config> config = Config::parse(text))
    image.config = *config;
  else
    r.ok = false;
  r.read(root, "select_heads", image.selectHeads);
  r.read(root, "score_stride", image.scoreStride);
  r.read(root, "chunk_tokens", image.chunkTokens);
  r.read(root, "mlir_ms", image.mlirMs);
  auto readBuffers = [&](const char *field, std::vector<Buffer> &buffers) {
    for (const json &entry : r.child(root, field)) {
      Buffer &buffer = buffers.emplace_back();
      r.read(entry, "name", buffer.name);
      r.read(entry, "bytes", buffer.bytes);
    }
  };
  readBuffers("buffers", image.buffers);
  auto readMaps = [&](const char *field, std::vector<TensorMapRecipe> &maps) {
    for (const json &entry : r.child(root, field)) {
      TensorMapRecipe &map = maps.emplace_back();
      r.read(entry, "tensor", map.tensor);
      r.read(entry, "extents", map.extents);
      r.read(entry, "strides", map.strides);
      r.read(entry, "box", map.box);
    }
  };
  readMaps("tensor_maps", image.tensorMaps);
  if (image.spec.backward) {
    readBuffers("backward_buffers", image.backwardBuffers);
    readMaps("backward_maps", image.backwardMaps);
    if (root.contains("backward_chunk_tokens"))
      r.read(root, "backward_chunk_tokens", image.backwardChunkTokens);
  }
  for (const json &entry : r.child(root, "kernels")) {
    Kernel &k = image.kernels.emplace_back();
    auto &[cubinSize, sourceSize] = sizes.emplace_back();
    r.read(entry, "name", k.name);
    r.read(entry, "step", k.step);
    r.read(entry, "when", k.when);
    r.read(entry, "grid_x", k.gridX);
    r.read(entry, "grid_y", k.gridY);
    r.read(entry, "block_threads", k.blockThreads);
    r.read(entry, "shared_bytes", k.sharedBytes);
    r.read(entry, "per_chunk", k.perChunk);
    if (entry.contains("in_clusters"))
      r.read(entry, "in_clusters", k.inClusters);
    if (entry.contains("cooperative"))
      r.read(entry, "cooperative", k.cooperative);
    if (entry.contains("early"))
      r.read(entry, "early", k.early);
    r.read(entry, "registers", k.registers);
    r.read(entry, "spill_bytes", k.spillBytes);
    r.read(entry, "static_shared_bytes", k.staticSharedBytes);
    r.read(entry, "compile_ms", k.compileMs);
    r.read(entry, "cubin_size", cubinSize);
    r.read(entry, "source_size", sourceSize);
    if (auto facts = entry.find("facts"); facts != entry.end()) {
      r.ok = r.ok && facts->is_object();
      for (const FactField &field : factFields())
        if (facts->contains(field.name))
          r.read(*facts, field.name, (k.facts.*field.member).emplace());
    }
  }
  return r.ok;
}

std::string digestOf(std::string_view fixed, std::string_view rest) {
  Sha256 sha;
  sha.update(fixed);
  sha.update(rest);
  std::array<uint8_t, 32> digest = sha.finish();
  return std::string(digest.begin(), digest.end());
}

} // namespace

bool isPtx(const Kernel &kernel) {
  return kernel.cubin.compare(0, SELFMAG, ELFMAG) != 0 &&
         std::string_view(kernel.cubin).substr(0, 4096).find(".version") != std::string_view::npos;
}

Status checkImage(const ProgramImage &image) {
  if (image.kernels.empty())
    return broken("the program has no kernels");
  for (const std::vector<Buffer> *buffers : {&image.buffers, &image.backwardBuffers})
    if (buffers->size() > WINNOW_MAX_BUFFERS)
      return broken(fmt::format("the program has {} workspace buffers; Params holds {}",
                                buffers->size(), WINNOW_MAX_BUFFERS));
  auto orElse = [](const std::string &text, const char *otherwise) {
    return text.empty() ? otherwise : text;
  };
  Status status =
      checkFormula("program", "dense_length", orElse(image.denseLength, "0"), Variable::MaxK);
  if (status)
    status = checkFormula("program", "parts", orElse(image.parts, "1"), Variable::DenseLength);
  if (status)
    status = checkFormula("program", "cluster", orElse(image.cluster, "0"), Variable::DenseLength);
  if (status)
    status = checkFormula("program", "decode_step", orElse(image.step, "0"), Variable::Cluster);
  if (status)
    status =
        checkFormula("program", "score_stride", orElse(image.scoreStride, "0"), Variable::MaxK);
  if (status)
    status = checkFormula("program", "chunk_tokens", orElse(image.chunkTokens, "total_q"),
                          Variable::ScoreStride);
  if (status)
    status = checkFormula("program", "backward_chunk_tokens",
                          orElse(image.backwardChunkTokens, "total_q"), Variable::ScoreStride);
  for (const std::vector<Buffer> *buffers : {&image.buffers, &image.backwardBuffers})
    for (const Buffer &buffer : *buffers)
      if (status)
        status =
            checkFormula("buffer " + buffer.name, "bytes", buffer.bytes, Variable::ChunkTokens);
  for (const std::vector<TensorMapRecipe> *maps : {&image.tensorMaps, &image.backwardMaps}) {
    if (maps->size() > WINNOW_MAX_TENSOR_MAPS)
      return broken(fmt::format("the program has {} tensor maps; Params holds {}", maps->size(),
                                WINNOW_MAX_TENSOR_MAPS));
    for (const TensorMapRecipe &map : *maps) {
      const bool isKnown = map.tensor == "q" || map.tensor == "k" || map.tensor == "v" ||
                           (map.tensor == "dout" && maps == &image.backwardMaps);
      if (!isKnown || map.extents.size() < 2 || map.extents.size() > 5 ||
          map.strides.size() + 1 != map.extents.size() || map.box.size() != map.extents.size())
        return broken("the tensor map of '" + map.tensor + "' is incomplete");
      for (const std::string &extent : map.extents)
        if (status)
          status = checkFormula("tensor map of " + map.tensor, "extents", extent, Variable::MaxK);
    }
  }
  if (image.summaries.size() > WINNOW_MAX_ROWS)
    return broken(fmt::format("a host would keep {} summaries; Params holds {}",
                              image.summaries.size(), WINNOW_MAX_ROWS));
  for (const SummaryShape &summary : image.summaries)
    if (summary.window < 1 || summary.stride < 1)
      return broken(fmt::format("there are no summaries of {} keys at stride {}", summary.window,
                                summary.stride));
  for (const Kernel &kernel : image.kernels) {
    std::string owner = "kernel " + kernel.name;
    if (status)
      status = checkFormula(owner, "when", orElse(kernel.when, "1"), kLastVariable);
    if (status)
      status = checkFormula(owner, "grid_x", orElse(kernel.gridX, "1"), Variable::TokenCount);
    if (status)
      status = checkFormula(owner, "grid_y", orElse(kernel.gridY, "1"), Variable::TokenCount);
    if (!status)
      return status;
    if (kernel.name.empty())
      return broken("a kernel of the program has no name");
    if (kernel.blockThreads < 1 || kernel.blockThreads > 1024 || kernel.sharedBytes < 0)
      return broken(
          fmt::format("{}: {} threads per block and {} bytes of shared memory cannot be launched",
                      owner, kernel.blockThreads, kernel.sharedBytes));
    if (kernel.cubin.empty())
      return broken(owner + ": the compiler gave no code");
    if (!isWholeElf(kernel.cubin) && !isPtx(kernel))
      return broken(fmt::format("{}: its {} bytes of code are neither a whole cubin nor PTX", owner,
                                kernel.cubin.size()));
  }
  return status;
}

Result<std::string> serializeImage(const ProgramImage &image) {
  WINNOW_CHECK(checkImage(image));
  std::string payload;
  for (const Kernel &kernel : image.kernels)
    payload += kernel.cubin + kernel.source;
  std::string packed(ZSTD_compressBound(payload.size()), '\0');
  size_t size =
      ZSTD_compress(packed.data(), packed.size(), payload.data(), payload.size(), kCompression);
  if (ZSTD_isError(size) || payload.size() > kMaxPayload)
    return fail(ErrorKind::CompileFailed,
                fmt::format("packing {} bytes of code failed; an image holds at most {}",
                            payload.size(), kMaxPayload));
  packed.resize(size);
  // Text from files may hold bytes that are no UTF-8; they must not end in an exception.
  std::string metadata = toJson(image).dump(1, ' ', false, json::error_handler_t::replace);

  std::string bytes(kMagic);
  appendNumber(bytes, kImageSchema, 4);
  appendNumber(bytes, 0, 4);
  appendNumber(bytes, metadata.size(), 8);
  appendNumber(bytes, packed.size(), 8);
  appendNumber(bytes, payload.size(), 8);
  std::string rest = metadata + packed;
  return bytes + digestOf(bytes, rest) + rest;
}

Result<ProgramImage> deserializeImage(std::string_view bytes) {
  auto invalid = [](const std::string &what) {
    return fail(ErrorKind::Usage, "not a usable program image: " + what);
  };
  if (bytes.size() < kHeaderBytes || bytes.substr(0, kMagic.size()) != kMagic)
    return invalid(fmt::format("its {} bytes do not begin with the header of one", bytes.size()));
  uint64_t schema = readNumber(bytes, 8, 4);
  if (schema != kImageSchema)
    return invalid(fmt::format("it has schema {}, this build reads {}; compile it again", schema,
                               kImageSchema));
  uint64_t metadataSize = readNumber(bytes, 16, 8), packedSize = readNumber(bytes, 24, 8);
  uint64_t payloadSize = readNumber(bytes, 32, 8);
  std::string_view rest = bytes.substr(kHeaderBytes);
  if (metadataSize > rest.size() || packedSize != rest.size() - metadataSize)
    return invalid("it is truncated or has bytes too many");
  if (metadataSize > kMaxMetadata || payloadSize > kMaxPayload)
    return invalid(
        fmt::format("it claims {} bytes of metadata and {} of code; at most {} and {} are read",
                    metadataSize, payloadSize, kMaxMetadata, kMaxPayload));
  if (digestOf(bytes.substr(0, kFixedBytes), rest) != bytes.substr(kFixedBytes, kDigestBytes))
    return invalid("its digest does not match its content");

  Result<json> root = parseJson(rest.substr(0, metadataSize));
  ProgramImage image;
  std::vector<std::pair<size_t, size_t>> sizes; // of cubin and source, per kernel
  if (!root)
    return invalid("its metadata cannot be read: " + root.error().message);
  if (!fromJson(*root, image, sizes))
    return invalid("its metadata is incomplete");
  std::string_view packed = rest.substr(metadataSize);
  // Nothing is allocated for a size that so many bytes cannot hold.
  if (payloadSize / kMaxBlock > packedSize / kMinPacked ||
      ZSTD_getFrameContentSize(packed.data(), packed.size()) != payloadSize)
    return invalid("its code cannot be unpacked");
  std::string payload(payloadSize, '\0');
  if (ZSTD_decompress(payload.data(), payload.size(), packed.data(), packed.size()) != payloadSize)
    return invalid("its code cannot be unpacked");
  size_t offset = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    auto [cubinSize, sourceSize] = sizes[i];
    if (cubinSize > payload.size() - offset || sourceSize > payload.size() - offset - cubinSize)
      return invalid("its kernels are longer than its code");
    image.kernels[i].cubin = payload.substr(offset, cubinSize);
    image.kernels[i].source = payload.substr(offset + cubinSize, sourceSize);
    offset += cubinSize + sourceSize;
  }
  if (Status status = checkImage(image); !status)
    return invalid(status.error().message);
  return image;
}

Status saveImageFile(const ProgramImage &image, const std::string &path) {
  WINNOW_TRY(std::string bytes, serializeImage(image));
  return publishFile(systemFiles(), path, bytes);
}

Result<ProgramImage> loadImageFile(const std::string &path) {
  WINNOW_TRY(std::string bytes, readWholeFile(systemFiles(), path, kMaxImageBytes));
  Result<ProgramImage> image = deserializeImage(bytes);
  if (!image)
    return fail(ErrorKind::Usage, fmt::format("{}: {}", path, image.error().message));
  return image;
}

} // namespace winnow
