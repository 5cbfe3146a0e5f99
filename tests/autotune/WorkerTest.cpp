// Workers that crash, hang, exhaust memory or talk nonsense: each is told in one sentence, and the
// next request finds a fresh one (F29).
#include "autotune/search/Worker.h"
#include "runtime/cache/Files.h"
#include <chrono>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace winnow {
namespace {

using Json = nlohmann::json;

std::vector<std::string> withScript(const char *step, const char *what) {
  std::string path = testing::TempDir() + "/worker-script.json";
  Json script{{"configs", {{"c", {{"at", step}, {"do", what}}}}}};
  EXPECT_TRUE(publishFile(systemFiles(), path, script.dump()));
  return {WINNOW_FAKE_WORKER, path, "measure"};
}

Json compileRequest() {
  return {{"do", "compile"}, {"config", "c"}, {"directory", testing::TempDir()}};
}

TEST(Worker, AnswersAndStays) {
  Worker worker({WINNOW_FAKE_WORKER, "measure"}, "");
  for (int i = 0; i < 3; ++i) {
    auto answer = worker.ask({{"do", "open"}}, 10);
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ((*answer)["device"], "Simulated GPU");
  }
  EXPECT_EQ(worker.starts(), 1);
}

TEST(Worker, F29ACrashIsToldAndTheNextRequestFindsAFreshOne) {
  Worker worker(withScript("compile", "crash"), "");
  auto answer = worker.ask(compileRequest(), 10);
  ASSERT_FALSE(answer);
  EXPECT_NE(answer.error().message.find("signal 11"), std::string::npos) << answer.error().message;
  EXPECT_FALSE(worker.running());
  EXPECT_TRUE(worker.ask({{"do", "open"}}, 10));
  EXPECT_EQ(worker.starts(), 2);
}

TEST(Worker, F29AHangEndsAtItsTimeOut) {
  Worker worker(withScript("compile", "hang"), "");
  auto began = std::chrono::steady_clock::now();
  auto answer = worker.ask(compileRequest(), 0.3);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().message, "no answer within 0.3 s");
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
  EXPECT_TRUE(worker.ask({{"do", "open"}}, 10));
}

TEST(Worker, F29ExhaustedMemoryEndsTheWorkerAlone) {
  Worker worker(withScript("compile", "exhaust"), "");
  auto answer = worker.ask(compileRequest(), 30);
  ASSERT_FALSE(answer);
  EXPECT_NE(answer.error().message.find("the worker"), std::string::npos) << answer.error().message;
  EXPECT_TRUE(worker.ask({{"do", "open"}}, 10));
}

/// What ask() says of a worker that answers everything with this line.
std::string errorOf(const std::string &answer) {
  Worker worker({"/bin/sh", "-c", "while read -r line; do echo '" + answer + "'; done"}, "");
  auto result = worker.ask({{"do", "open"}}, 10);
  return result ? "no error" : result.error().message;
}

TEST(Worker, F29AnswersOfTheWrongTypesAreFailures) {
  for (const char *answer :
       {R"({"ok":false,"kind":"x"})", R"({"ok":false,"kind":99})", R"({"ok":false,"kind":0})",
        R"({"ok":false,"kind":1e99})", R"({"ok":false,"error":7})", R"({"ok":"no"})", R"({"ok":7})",
        R"([])", R"(7)", R"({})", R"({"ok":true,"kind":[]})", "null"})
    EXPECT_EQ(errorOf(answer), std::string("the worker answered '") + answer + "'");
  EXPECT_EQ(errorOf(R"({"ok":false,"kind":3,"error":"too large"})"), "too large");
  EXPECT_EQ(errorOf(R"({"ok":false})"), "the worker failed without a word");
  EXPECT_EQ(errorOf(R"({"ok":true})"), "no error");
  Worker deep({"/bin/sh", "-c", "read -r line; head -c 100000 /dev/zero | tr '\\0' '['; echo"}, "");
  auto answer = deep.ask({{"do", "open"}}, 10);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().message.substr(0, 22), "the worker answered '[");
}

TEST(Worker, F29AnEndlessAnswerIsAFailure) {
  Worker endless({"/bin/sh", "-c", "tr '\\0' x < /dev/zero"}, "");
  auto answer = endless.ask({{"do", "open"}}, 30);
  ASSERT_FALSE(answer);
  EXPECT_NE(answer.error().message.find("without an answer"), std::string::npos)
      << answer.error().message;
}

TEST(Worker, NonsenseAndAMissingProgramAreTold) {
  Worker cat({"/bin/cat"}, "");
  auto answer = cat.ask({{"do", "open"}}, 10);
  ASSERT_FALSE(answer);
  EXPECT_NE(answer.error().message.find("the worker answered"), std::string::npos)
      << answer.error().message;
  Worker missing({"/no/such/program"}, "");
  answer = missing.ask({{"do", "open"}}, 10);
  ASSERT_FALSE(answer);
  EXPECT_NE(answer.error().message.find("could not be started"), std::string::npos)
      << answer.error().message;
}

} // namespace
} // namespace winnow
