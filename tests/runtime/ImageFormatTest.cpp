// Program images as bytes: what goes in comes out, and nothing broken gets in or out (F05, F06,
// F12).
#include "TestSupport.h"
#include "runtime/cache/LittleEndian.h"
#include <sys/resource.h>

using namespace winnow;
using namespace winnow::test;

namespace {

std::string errorOf(const ProgramImage &image) {
  Status status = checkImage(image);
  return status ? "no error" : status.error().message;
}

TEST(ImageFormat, RoundTripKeepsEveryField) {
  ProgramImage image = sampleImage();
  image.denseLength = "300 / batch";
  image.parts = "min(4, max_q) * (max_k < dense_length)", image.kernels[1].early = true;
  image.cluster = "min(cluster_limit, 4)", image.kernels[1].inClusters = true;
  image.step = "2 * (step_limit >= sm_count)", image.kernels[1].cooperative = true;
  image.summaries = {{32, 16}, {128, 64}};
  Result<std::string> bytes = serializeImage(image);
  ASSERT_TRUE(bytes) << bytes.error().message;
  Result<ProgramImage> back = deserializeImage(*bytes);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->method, image.method);
  EXPECT_EQ(back->key, image.key);
  EXPECT_EQ(back->arch, image.arch);
  EXPECT_EQ(back->spec.text(), image.spec.text());
  EXPECT_EQ(back->defaults, image.defaults);
  EXPECT_EQ(back->spec.valueDim, image.spec.valueDim);
  EXPECT_EQ(back->spec.scale, image.spec.scale);
  EXPECT_EQ(back->config.text(), image.config.text());
  EXPECT_EQ(back->selectHeads, image.selectHeads);
  EXPECT_EQ(back->denseLength, image.denseLength);
  EXPECT_EQ(back->parts, image.parts);
  EXPECT_EQ(back->cluster, image.cluster);
  EXPECT_EQ(back->step, image.step);
  EXPECT_EQ(back->scoreStride, image.scoreStride);
  EXPECT_EQ(back->chunkTokens, image.chunkTokens);
  EXPECT_EQ(back->mlirMs, image.mlirMs);
  ASSERT_EQ(back->buffers.size(), image.buffers.size());
  for (size_t i = 0; i < image.buffers.size(); ++i) {
    EXPECT_EQ(back->buffers[i].name, image.buffers[i].name);
    EXPECT_EQ(back->buffers[i].bytes, image.buffers[i].bytes);
  }
  ASSERT_EQ(back->summaries.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(back->summaries[i].window, image.summaries[i].window);
    EXPECT_EQ(back->summaries[i].stride, image.summaries[i].stride);
  }
  ASSERT_EQ(back->kernels.size(), image.kernels.size());
  for (size_t i = 0; i < image.kernels.size(); ++i) {
    const Kernel &a = image.kernels[i], &b = back->kernels[i];
    // A new field of Kernel stops this line from compiling: store it, then compare it here.
    const auto &[name, step, when, x, y, inClusters, cooperative, threads, shared, perChunk, early,
                 facts, registers, spill, fixed, ms, cubin, source] = a;
    EXPECT_EQ(b.name, name);
    EXPECT_EQ(b.step, step);
    EXPECT_EQ(b.when, when);
    EXPECT_EQ(b.gridX, x);
    EXPECT_EQ(b.gridY, y);
    EXPECT_EQ(b.inClusters, inClusters);
    EXPECT_EQ(b.cooperative, cooperative);
    EXPECT_EQ(b.blockThreads, threads);
    EXPECT_EQ(b.sharedBytes, shared);
    EXPECT_EQ(b.perChunk, perChunk);
    EXPECT_EQ(b.early, early);
    EXPECT_EQ(b.facts.text(), facts.text());
    EXPECT_EQ(b.registers, registers);
    EXPECT_EQ(b.spillBytes, spill);
    EXPECT_EQ(b.staticSharedBytes, fixed);
    EXPECT_EQ(b.compileMs, ms);
    EXPECT_EQ(b.cubin, cubin);
    EXPECT_EQ(b.source, source);
  }
}

TEST(ImageFormat, F12IngredientsOfTheKeyAreKeptAndMayBeMissing) {
  ProgramImage image = sampleImage();
  image.ingredients = {{"arch", "sm_80"}, {"spec", image.spec.text()}};
  Result<ProgramImage> back = deserializeImage(*serializeImage(image));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->ingredients, image.ingredients);
  EXPECT_TRUE(deserializeImage(*serializeImage(sampleImage()))->ingredients.empty());
}

TEST(ImageFormat, F06EveryTruncationIsRefused) {
  const std::string bytes = *serializeImage(sampleImage());
  for (size_t size = 0; size < bytes.size(); ++size)
    ASSERT_FALSE(deserializeImage(std::string_view(bytes).substr(0, size))) << size;
  EXPECT_FALSE(deserializeImage(bytes + "x"));
}

TEST(ImageFormat, F06EveryFlippedByteIsRefused) {
  std::string bytes = *serializeImage(sampleImage());
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(bytes[i] ^ 0x20);
    ASSERT_FALSE(deserializeImage(bytes)) << i;
    bytes[i] = static_cast<char>(bytes[i] ^ 0x20);
  }
  EXPECT_TRUE(deserializeImage(bytes));
}

TEST(ImageFormat, F06SizesFromAHostileHeaderAllocateNothing) {
  std::string bytes = *serializeImage(sampleImage());
  for (size_t offset : {16, 24, 32}) {
    std::string hostile = bytes;
    for (size_t i = 0; i < 8; ++i)
      hostile[offset + i] = '\xff';
    EXPECT_FALSE(deserializeImage(hostile));
  }
}

TEST(ImageFormat, F05CodeThatIsNoWholeCubinIsRefused) {
  ProgramImage image = sampleImage();
  image.kernels[1].cubin.clear();
  EXPECT_EQ(errorOf(image), "kernel score: the compiler gave no code");
  image.kernels[1].cubin = "error: out of memory";
  EXPECT_NE(errorOf(image).find("neither a whole cubin nor PTX"), std::string::npos);
  image.kernels[1].cubin = fakeCubin("score").substr(0, 100);
  EXPECT_NE(errorOf(image).find("neither a whole cubin nor PTX"), std::string::npos);
  EXPECT_EQ(serializeImage(image).error().kind, ErrorKind::CompileFailed);
  image.kernels[1].cubin = ".version 8.0\n.target sm_80\n";
  EXPECT_TRUE(checkImage(image));
  EXPECT_TRUE(isPtx(image.kernels[1]));
  EXPECT_FALSE(isPtx(image.kernels[0]));
}

/// An image file of these parts, with the digest that makes it one.
std::string imageOf(const std::string &metadata, const std::string &packed, uint64_t payloadBytes) {
  std::string fixed = "WINNOWPI";
  appendNumber(fixed, kImageSchema, 4);
  appendNumber(fixed, 0, 4);
  for (uint64_t size : {uint64_t(metadata.size()), uint64_t(packed.size()), payloadBytes})
    appendNumber(fixed, size, 8);
  Sha256 sha;
  sha.update(fixed + metadata + packed);
  const std::array<uint8_t, 32> digest = sha.finish();
  return fixed + std::string(digest.begin(), digest.end()) + metadata + packed;
}

TEST(ImageFormat, NothingIsAllocatedForWhatAnImageOnlyClaims) {
  const std::string good = *serializeImage(sampleImage());
  const size_t metadataBytes = readNumber(good, 16, 8);
  const std::string metadata = good.substr(72, metadataBytes),
                    packed = good.substr(72 + metadataBytes);
  const uint64_t payloadBytes = readNumber(good, 32, 8);
  ASSERT_TRUE(deserializeImage(imageOf(metadata, packed, payloadBytes)));
  auto errorOf = [&](const std::string &bytes) {
    Result<ProgramImage> image = deserializeImage(bytes);
    return image ? "no error" : image.error().message;
  };
  struct rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  for (uint64_t claimed : {uint64_t(1) << 30, uint64_t(1) << 40, UINT64_MAX})
    EXPECT_NE(errorOf(imageOf(metadata, packed, claimed)).find("at most"), std::string::npos);
  EXPECT_NE(errorOf(imageOf(metadata, packed, 60 << 20)).find("cannot be unpacked"),
            std::string::npos);
  EXPECT_NE(errorOf(imageOf(metadata, packed.substr(0, 20), 60 << 20)).find("cannot be unpacked"),
            std::string::npos);
  EXPECT_NE(errorOf(imageOf(std::string(5 << 20, ' '), packed, payloadBytes)).find("at most"),
            std::string::npos);
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 300 << 10); // KiB; sanitizers keep what was freed
  const std::string deep = std::string(1000000, '[') + std::string(1000000, ']');
  EXPECT_NE(errorOf(imageOf(deep, packed, payloadBytes)).find("more than 64 levels"),
            std::string::npos);
}

TEST(ImageFormat, EveryFactIsKeptAndNoneIsMadeUp) {
  ProgramImage image = sampleImage();
  KernelFacts &facts = image.kernels[3].facts;
  int value = 0; // the first fact is there and says 0
  for (const FactField &field : factFields())
    facts.*field.member = value++;
  Result<ProgramImage> back = deserializeImage(*serializeImage(image));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->kernels[3].facts, facts);
  EXPECT_EQ(back->kernels[2].facts.text(), "");
  EXPECT_FALSE(back->kernels[2].facts.warps);
}

TEST(ImageFormat, FactsThatAreNoNumbersAreRefused) {
  const std::string good = *serializeImage(sampleImage());
  const size_t metadataBytes = readNumber(good, 16, 8);
  const std::string metadata = good.substr(72, metadataBytes),
                    packed = good.substr(72 + metadataBytes);
  auto with = [&](const char *fact) {
    std::string text = metadata;
    const std::string stages = "\"stages\": 3";
    text.replace(text.find(stages), stages.size(), fact);
    return deserializeImage(imageOf(text, packed, readNumber(good, 32, 8)));
  };
  EXPECT_EQ(with("\"stages\": 4")->kernels[3].facts.stages, 4);
  EXPECT_FALSE(with("\"stages\": -1"));
  EXPECT_FALSE(with("\"stages\": \"3\""));
  EXPECT_FALSE(with("\"stages\": 4294967296"));
  // Of a newer build.
  EXPECT_FALSE(with("\"steges\": 4")->kernels[3].facts.stages);
}

TEST(ImageFormat, RecipesThatCannotBeLaunchedAreRefused) {
  const struct {
    const char *message;
    void (*damage)(ProgramImage &);
  } cases[] = {
      {"no kernels", [](ProgramImage &i) { i.kernels.clear(); }},
      {"has no name", [](ProgramImage &i) { i.kernels[0].name.clear(); }},
      {"9 workspace buffers", [](ProgramImage &i) { i.buffers.resize(9, {"b", "1"}); }},
      {"cannot be launched", [](ProgramImage &i) { i.kernels[0].blockThreads = 0; }},
      {"cannot be launched", [](ProgramImage &i) { i.kernels[0].blockThreads = 1025; }},
      {"cannot be launched", [](ProgramImage &i) { i.kernels[0].sharedBytes = -1; }},
      {"kernel attend, grid_x: formula 'tokens'",
       [](ProgramImage &i) { i.kernels[3].gridX = "tokens"; }},
      {"buffer k1, bytes", [](ProgramImage &i) { i.buffers[0].bytes = "token_count"; }},
      {"program, score_stride", [](ProgramImage &i) { i.scoreStride = "chunk_tokens"; }},
      {"program, chunk_tokens", [](ProgramImage &i) { i.chunkTokens = "token_count"; }},
  };
  for (const auto &[message, damage] : cases) {
    ProgramImage image = sampleImage();
    damage(image);
    EXPECT_NE(errorOf(image).find(message), std::string::npos) << errorOf(image);
  }
}

TEST(ImageFormat, IncompleteTensorMapsAreRefused) {
  auto refused = [](const std::function<void(TensorMapRecipe &)> &damage) {
    ProgramImage image = sampleImage();
    damage(image.tensorMaps[0]);
    return !checkImage(image);
  };
  EXPECT_TRUE(refused([](TensorMapRecipe &map) { map.tensor = "out"; }));
  EXPECT_TRUE(refused([](TensorMapRecipe &map) { map.strides.pop_back(); }));
  EXPECT_TRUE(refused([](TensorMapRecipe &map) { map.box.push_back(1); }));
  EXPECT_TRUE(refused([](TensorMapRecipe &map) { map.extents[1] = "total_z"; }));
  ProgramImage many = sampleImage();
  many.tensorMaps.resize(8, many.tensorMaps[0]);
  EXPECT_TRUE(checkImage(many));
  many.tensorMaps.resize(9, many.tensorMaps[0]);
  EXPECT_FALSE(checkImage(many));
  ProgramImage derived = sampleImage();
  derived.backwardMaps = {derived.tensorMaps[0]};
  derived.backwardMaps[0].tensor = "dout";
  EXPECT_TRUE(checkImage(derived));
  derived.backwardMaps[0].box.pop_back();
  EXPECT_FALSE(checkImage(derived));
  EXPECT_TRUE(refused([](TensorMapRecipe &map) { map.tensor = "dout"; })) << "no gradients there";
}

TEST(ImageFormat, F12OtherSchemasAreRefusedInWords) {
  for (const std::string schema : {"0", "1"}) {
    Result<ProgramImage> older =
        loadImageFile(WINNOW_TEST_DATA "/image_schema" + schema + ".winnow");
    ASSERT_FALSE(older);
    EXPECT_NE(older.error().message.find("it has schema " + schema + ", this build reads 2"),
              std::string::npos)
        << older.error().message;
  }
}

TEST(ImageFormat, F12TheCurrentSchemaReadsFilesOfEarlierBuilds) {
  // Fails when the format changes without a new schema number.
  Result<ProgramImage> stored = loadImageFile(WINNOW_TEST_DATA "/image_schema2.winnow");
  ASSERT_TRUE(stored) << stored.error().message;
  ProgramImage now = sampleImage();
  now.defaults.clear(); // written since
  for (Kernel &kernel : now.kernels)
    kernel.facts = {}; // the same
  EXPECT_TRUE(sameImage(*stored, now));
}

TEST(ImageFormat, FilesOfUsers) {
  TempDir dir;
  const std::string path = dir / "program.winnow";
  ASSERT_TRUE(saveImageFile(sampleImage(), path));
  Result<ProgramImage> back = loadImageFile(path);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_TRUE(sameImage(*back, sampleImage()));
  EXPECT_EQ(listDirectory(dir.path), std::vector<std::string>{"program.winnow"});

  EXPECT_EQ(loadImageFile(dir / "none").error().message,
            "cannot read " + dir.path + "/none: No such file or directory");
  EXPECT_EQ(loadImageFile(dir.path).error().message,
            "cannot read " + dir.path + ": Is a directory");
  Status unwritable = saveImageFile(sampleImage(), dir / "no/such/place");
  ASSERT_FALSE(unwritable);
  EXPECT_EQ(unwritable.error().kind, ErrorKind::Usage);
  writeBytes(path, "not an image");
  EXPECT_NE(loadImageFile(path).error().message.find(path + ": not a usable program image"),
            std::string::npos);
}

} // namespace
