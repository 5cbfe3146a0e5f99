// The compiler behind the runtime's hook: what it refuses before building (F13), and the parameters
// it knows.
#include "compiler/driver/CompileHook.h"
#include <gtest/gtest.h>

using namespace winnow;

namespace {

ProgramRequest request(int stages) {
  ProgramRequest request;
  request.method = "infllm_v2";
  request.arch = "sm_80";
  request.config.attendStages = stages;
  return request;
}

TEST(CompileHook, F13ChecksWithTheRulesOfTheBuild) {
  CompileHook hook = compilerHook();
  EXPECT_TRUE(hook.check(request(2)));
  Status refused = hook.check(request(10));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("shared memory"), std::string::npos)
      << refused.error().message;
  EXPECT_EQ(hook.build(request(10)).error().message, refused.error().message);
  EXPECT_FALSE(hook.check(request(77)));
}

TEST(CompileHook, ImagesSayWhatTheMethodDeclares) {
  // Before specialising: a parameter that is set must not pass for its default (F09).
  for (const MethodInfo &method : builtinMethods()) {
    CompileRequest plain;
    plain.method = method.name;
    plain.arch = "sm_80";
    auto lowered = lowerProgram(plain);
    if (lowered)
      EXPECT_EQ(lowered->first.defaults, *parameterDefaults(method.name)) << method.name;
  }
  CompileRequest set;
  set.method = "infllm_v2";
  set.arch = "sm_80";
  set.spec.params["local"] = "17";
  auto lowered = lowerProgram(set);
  ASSERT_TRUE(lowered) << lowered.error().message;
  EXPECT_EQ(lowered->first.spec.params.at("local"), "17");
  EXPECT_EQ(lowered->first.defaults.at("local"), parameterDefaults("infllm_v2")->at("local"));
  EXPECT_NE(lowered->first.defaults.at("local"), "17");
}

TEST(CompileHook, EveryFieldOfARequestReachesTheCompiler) {
  ProgramRequest asked;
  asked.method = "moba";
  asked.arch = "sm_89";
  asked.spec.heads = 24, asked.spec.kvHeads = 6, asked.spec.headDim = 96, asked.spec.valueDim = 64;
  asked.spec.block = 32, asked.spec.topk = 7, asked.spec.dtype = Dtype::FP16;
  asked.spec.scale = 0.125;
  asked.spec.params = {{"local", "3"}};
  asked.config.attendStages = 3;
  const CompileRequest own = compileRequest(asked, "/where/nvrtc/is");
  EXPECT_EQ(own.method, asked.method);
  EXPECT_EQ(own.arch, asked.arch);
  EXPECT_EQ(own.spec.text(), asked.spec.text());
  EXPECT_EQ(own.config.text(), asked.config.text());
  EXPECT_EQ(own.nvrtcPath, "/where/nvrtc/is");
  EXPECT_EQ(own.phase, "");
}

TEST(CompileHook, KeysDoNotDependOnTheWorkload) {
  ProgramRequest shorter = request(2);
  shorter.workload = {2048, 1};
  CompileHook hook = compilerHook();
  ASSERT_TRUE(hook.key(shorter));
  EXPECT_EQ(*hook.key(shorter), *hook.key(request(2)));
}

TEST(CompileHook, ParametersAreTheMethods) {
  CompileHook hook = compilerHook();
  for (const MethodInfo &method : builtinMethods()) {
    auto defaults = hook.parameters(method.name);
    ASSERT_TRUE(defaults) << defaults.error().message;
    for (const auto &[name, value] : *defaults)
      EXPECT_NE(method.text.find(name + " = "), std::string::npos) << method.name << " " << name;
  }
  EXPECT_EQ(hook.parameters("infllm_v2")->at("local"), "33");
  EXPECT_FALSE(hook.parameters("no_such_method"));
}

} // namespace
