// Canonical texts, the table of targets, digests and keys: F08 to F11 and F20.
#include "TestSupport.h"
#include "runtime/device/Target.h"
#include "runtime/program/Formula.h"
#include <cmath>
#include <set>
#include <sys/wait.h>
#include <unistd.h>

using namespace winnow;
using namespace winnow::test;

namespace {

TEST(Spec, TextIsCanonical) {
  Spec spec;
  spec.params = {{"window", "32"}, {"init", "1"}};
  EXPECT_EQ(spec.text(),
            "heads=32 kv_heads=2 head_dim=128 value_dim=128 block=64 topk=96 dtype=bf16 "
            "scale=0.08838834764831843 set.init=1 set.window=32");
}

TEST(Spec, DefaultScaleAndItsValueAreTheSameProgram) {
  Spec implied, given;
  given.scale = implied.softmaxScale();
  EXPECT_EQ(implied.text(), given.text());
}

TEST(Spec, DefaultValueDimAndItsValueAreTheSameProgram) {
  Spec implied, given;
  given.valueDim = given.headDim;
  EXPECT_EQ(implied.text(), given.text());
}

TEST(Spec, TextComesBack) {
  Spec spec;
  spec.heads = 12, spec.kvHeads = 3, spec.headDim = 96, spec.valueDim = 64, spec.block = 32,
  spec.topk = 7;
  spec.dtype = Dtype::FP16, spec.scale = 0.3;
  spec.paged = true, spec.kvDtype = KvDtype::Fp8E4m3;
  spec.params["window"] = "32", spec.params["a b=%"] = "1 heads=4";
  Result<Spec> again = Spec::parse(spec.text());
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->text(), spec.text());
  EXPECT_EQ(again->params, spec.params);
  for (const char *text :
       {"heads", "heads=0", "heads=x", "colour=1", "dtype=int8", "scale=big", "kv_heads=0",
        "heads=2147483640", "head_dim=-1", "value_dim=-1", "heads=3", "block=0", "topk=99999",
        "kv_dtype=fp8", "kv_dtype=fp8_e4m3", "scale=inf", "scale=nan", "scale=1e300", "scale=-1"})
    EXPECT_FALSE(Spec::parse(text)) << text;
}

TEST(Spec, ParametersCannotImitateOtherText) {
  Spec one, two;
  one.params = {{"a", "1 set.b=2"}};
  two.params = {{"a", "1"}, {"b", "2"}};
  EXPECT_NE(one.text(), two.text());
}

TEST(Spec, F09EachFieldChangesTheText) {
  std::set<std::string> texts = {Spec().text()};
  size_t changes = 0;
  auto change = [&](auto set) {
    Spec spec;
    set(spec);
    texts.insert(spec.text());
    ++changes;
  };
  change([](Spec &s) { s.heads = 16; });
  change([](Spec &s) { s.kvHeads = 4; });
  change([](Spec &s) { s.headDim = 64; });
  change([](Spec &s) { s.valueDim = 64; });
  change([](Spec &s) { s.block = 32; });
  change([](Spec &s) { s.topk = 16; });
  change([](Spec &s) { s.dtype = Dtype::FP16; });
  change([](Spec &s) { s.paged = true; });
  change([](Spec &s) { s.kvDtype = KvDtype::Fp8E4m3; });
  change([](Spec &s) { s.backward = true; });
  change([](Spec &s) { s.scale = 0.1; });
  change([](Spec &s) { s.params["init"] = "1"; });
  change([](Spec &s) { s.params["init"] = "2"; });
  EXPECT_EQ(texts.size(), changes + 1);
}

TEST(Spec, NumbersAreTakenUpToTheirLimitsAndNoFurther) {
  for (const SpecField &field : specFields()) {
    Spec spec;
    spec.kvHeads = 1;
    for (int value : {field.least, field.most}) {
      spec.*field.member = value;
      if (field.member == &Spec::kvHeads)
        spec.heads = value;
      EXPECT_TRUE(spec.check()) << field.name << " " << value;
      spec.*field.member = value + (value == field.most ? 1 : -1);
      Status status = spec.check();
      ASSERT_FALSE(status) << field.name << " " << value;
      EXPECT_NE(status.error().message.find(field.name), std::string::npos);
    }
    EXPECT_EQ(field.most, 32768);
    EXPECT_EQ(field.least, field.member == &Spec::valueDim ? 0 : 1);
  }
}

TEST(Spec, ScalesAreTakenUpToTheirLimitsAndNoFurther) {
  Spec spec;
  for (double scale : {0.0, 1e-6, 1.0, 1e6}) {
    spec.scale = scale;
    EXPECT_TRUE(spec.check()) << scale;
  }
  for (double scale :
       {std::nextafter(1e-6, 0.0), std::nextafter(1e6, 2e6), -1.0, std::nan(""), HUGE_VAL}) {
    spec.scale = scale;
    EXPECT_FALSE(spec.check()) << scale;
  }
}

TEST(Dtype, Names) {
  EXPECT_EQ(*parseDtype("bf16"), Dtype::BF16);
  EXPECT_EQ(*parseDtype(name(Dtype::FP16)), Dtype::FP16);
  EXPECT_FALSE(parseDtype("fp8"));
  EXPECT_EQ(*parseKvDtype("same"), KvDtype::Same);
  EXPECT_EQ(*parseKvDtype(name(KvDtype::Fp8E4m3)), KvDtype::Fp8E4m3);
  EXPECT_FALSE(parseKvDtype("fp8_e5m2"));
}

TEST(Target, Rows) {
  const struct {
    const char *arch;
    int major, minor, kib;
    bool tma;
  } rows[] = {
      {"sm_80", 8, 0, 163, false},   {"sm_86", 8, 6, 99, false},   {"sm_87", 8, 7, 163, false},
      {"sm_89", 8, 9, 99, false},    {"sm_90a", 9, 0, 227, true},  {"sm_100", 10, 0, 227, false},
      {"sm_103", 10, 3, 227, false}, {"sm_120", 12, 0, 99, false}, {"sm_121", 12, 1, 99, false}};
  for (const auto &row : rows) {
    Result<const Target *> target = findTarget(row.arch);
    ASSERT_TRUE(target);
    EXPECT_EQ((*target)->major, row.major);
    EXPECT_EQ((*target)->minor, row.minor);
    EXPECT_EQ((*target)->sharedPerBlock, row.kib * 1024);
    EXPECT_EQ((*target)->hasBulkCopy, row.tma);
    EXPECT_EQ((*target)->hasFp8Conversion, 10 * row.major + row.minor >= 89);
    EXPECT_EQ((*target)->hasEarlyLaunch, std::string((*target)->leafHeader) == "sm90.cuh");
    EXPECT_EQ(*targetForDevice(row.major, row.minor), *target);
  }
  EXPECT_STREQ((*targetForDevice(8, 8))->arch,
               "sm_87"); // cubins run on later minors of their major
  EXPECT_STREQ(defaultTarget().arch, "sm_90a");
  EXPECT_EQ(findTarget("sm_90").error().kind, ErrorKind::Unsupported);
  EXPECT_TRUE(ptxRunsOn(**findTarget("sm_80"), 9, 0));
  EXPECT_FALSE(ptxRunsOn(**findTarget("sm_90a"), 10, 0));
  EXPECT_FALSE(runsOn(**findTarget("sm_80"), 9, 0));
}

TEST(Target, F20UnknownGpuIsRefusedInWords) {
  for (auto [major, minor] :
       {std::pair(15, 0), std::pair(7, 5), std::pair(9, 1), std::pair(11, 0)}) {
    Result<const Target *> target = targetForDevice(major, minor);
    ASSERT_FALSE(target) << major << "." << minor;
    EXPECT_EQ(target.error().kind, ErrorKind::Unsupported);
    EXPECT_NE(target.error().message.find(
                  "sm_80, sm_86, sm_87, sm_89, sm_90a, sm_100, sm_103, sm_120, sm_121"),
              std::string::npos);
  }
  EXPECT_NE(targetForDevice(15, 0).error().message.find("15.0"), std::string::npos);
}

TEST(Digest, KnownAnswers) { // FIPS 180-4 examples
  EXPECT_EQ(sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256Hex(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  Sha256 pieces; // any division of the input gives the same digest
  std::string text(1000, 'x');
  for (size_t begin = 0, size = 1; begin < text.size(); begin += size, ++size)
    pieces.update(std::string_view(text).substr(begin, size));
  std::array<uint8_t, 32> digest = pieces.finish();
  Sha256 whole;
  whole.update(text);
  EXPECT_EQ(digest, whole.finish());
}

TEST(Digest, TheProcessorsInstructionsGiveThePlainDigest) {
  std::string bytes;
  for (int size = 0; size < 300; ++size) {
    Sha256 whole, single; // bytes that come one by one are always digested the plain way
    whole.update(bytes);
    for (char byte : bytes)
      single.update(std::string_view(&byte, 1));
    EXPECT_EQ(whole.finish(), single.finish()) << size;
    bytes += static_cast<char>(size * 37);
  }
}

TEST(Key, PartsCannotRunIntoEachOther) {
  EXPECT_NE(keyFrom({{"a", "bc"}}), keyFrom({{"ab", "c"}}));
  EXPECT_NE(keyFrom({{"a", "1"}, {"b", "2"}}), keyFrom({{"a", "1\nb:1:2"}}));
}

TEST(Key, F11ArchIsInTheKey) {
  std::set<std::string> keys;
  for (const Target &target : targets())
    keys.insert(keyFrom({{"spec", Spec().text()}, {"arch", target.arch}}));
  EXPECT_EQ(keys.size(), targets().size());
}

/// Runs the key printer in `directory` with the given environment and returns what it printed.
std::string printedKey(const std::string &directory, const std::string &environment) {
  std::string command = "cd '" + directory + "' && env -i " + environment + " " WINNOW_KEY_PRINTER;
  FILE *pipe = popen(command.c_str(), "r");
  char line[4096] = {0};
  size_t size = fread(line, 1, sizeof(line) - 1, pipe);
  EXPECT_EQ(pclose(pipe), 0);
  return std::string(line, size);
}

TEST(Key, F08F10SameInEveryProcessPlaceAndEnvironment) {
  TempDir here;
  const std::string first = printedKey("/", "");
  ASSERT_GE(first.size(), 64u);
  for (int i = 0; i < 100; ++i)
    ASSERT_EQ(
        printedKey(i % 2 ? here.path : "/tmp",
                   "HOME=/h" + std::to_string(i) + " LC_ALL=de_DE.UTF-8 I=" + std::to_string(i)),
        first);
}

} // namespace
