// Workers that crash, hang, exhaust memory or talk nonsense: each is told in one sentence, and the
// next request finds a fresh one (F29).
#include "autotune/Worker.h"
#include "runtime/Files.h"
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
