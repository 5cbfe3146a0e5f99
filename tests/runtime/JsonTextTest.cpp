// JSON from outside: how deep it may be, and fields of any type (row "JSON nested 1,000,000 deep").
#include "runtime/JsonText.h"
#include "runtime/tuned/Decisions.h"
#include "runtime/tuned/TuningRecord.h"
#include <gtest/gtest.h>

using namespace winnow;
using Json = nlohmann::json;

namespace {

std::string nested(int levels, const std::string &open, const std::string &close,
                   const std::string &inside = "1") {
  std::string text;
  for (int i = 0; i < levels; ++i)
    text += open;
  text += inside;
  for (int i = 0; i < levels; ++i)
    text += close;
  return text;
}

TEST(JsonText, DepthIsLimited) {
  EXPECT_TRUE(parseJson(nested(kJsonDepth, "[", "]")));
  EXPECT_TRUE(parseJson(nested(kJsonDepth, "{\"a\":", "}")));
  for (int levels : {kJsonDepth + 1, 1000000}) {
    EXPECT_EQ(parseJson(nested(levels, "[", "]")).error().message, "it has more than 64 levels");
    EXPECT_EQ(parseJson(nested(levels, "{\"a\":", "}")).error().message,
              "it has more than 64 levels");
    EXPECT_FALSE(parseJson(nested(levels, "[", "")));
  }
  // Brackets of a text are no levels, whatever is escaped in it; nor are those that end.
  EXPECT_TRUE(parseJson("\"" + std::string(1000, '[') + "\\\"" + std::string(1000, '{') + "\""));
  EXPECT_TRUE(
      parseJson("[" + nested(1000, "[", "", "") + nested(0, "", "")).error().message.size());
  std::string wide = "[[]";
  for (int i = 0; i < 1000; ++i)
    wide += ",[]";
  EXPECT_TRUE(parseJson(wide + "]"));
  for (const char *broken : {"", "{", "[1,", "nul", "{\"a\":1e999}", "\"\xff\""})
    EXPECT_EQ(parseJson(broken).error().message, "it is cut short, or no JSON at all") << broken;
}

TEST(JsonText, EveryReaderHasTheLimit) {
  const std::string deep = nested(1000000, "[", "]");
  Result<std::vector<Decision>> decisions = parseDecisions(deep);
  ASSERT_FALSE(decisions);
  EXPECT_NE(decisions.error().message.find("more than 64 levels"), std::string::npos);
  TuningLines lines = parseTuningLines("{\"schema\":1,\"kind\":" + deep + "}");
  ASSERT_EQ(lines.faults.size(), 1u);
  EXPECT_NE(lines.faults[0].find("more than 64 levels"), std::string::npos) << lines.faults[0];
}

TEST(JsonText, FieldsOfEveryTypeAreReadOrTold) {
  const std::vector<Json> values = {
      nullptr, true, 7, 1.5, "text", Json::array({1}), -3, Json::object(), uint64_t(1) << 63};
  for (const Json &value : values) {
    const Json object{{"field", value}};
    auto read = [&](auto reader) {
      JsonFields<Json> fields(object);
      reader(fields);
      return static_cast<bool>(fields.status());
    };
    EXPECT_EQ(read([](auto &f) { f.text("field"); }), value.is_string());
    EXPECT_EQ(read([](auto &f) { f.flag("field"); }), value.is_boolean());
    EXPECT_EQ(read([](auto &f) { f.number("field"); }), value.is_number());
    EXPECT_EQ(read([](auto &f) { f.whole("field"); }), value == 7 || value == -3);
    EXPECT_TRUE(read([](auto &f) { f.whole("missing"); }));
    JsonFields<Json> none(value); // no object has no fields
    EXPECT_EQ(none.whole("field", 5), 5);
    EXPECT_EQ(none.text("field", "other"), "other");
  }
  const Json object{{"a", 1}, {"b", 2}};
  JsonFields<Json> fields(object);
  fields.text("a"), fields.flag("b");
  EXPECT_EQ(fields.status().error().message, "'a' is not a text");
}

} // namespace
