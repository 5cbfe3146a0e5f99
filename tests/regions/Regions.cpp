// See Regions.h.
#include "tests/regions/Regions.h"
#include "compiler/cpu/CpuCode.h"
#include "compiler/cpu/CpuRegion.h"
#include "compiler/cuda/EmitCuda.h"
#include "compiler/driver/EmbeddedFiles.h"
#include "compiler/select/RegionDerivative.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Parser/Parser.h"
#include "tests/regions/RandomRegion.h"
#include "llvm/ADT/StringExtras.h"
#include <cmath>
#include <dlfcn.h>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>

using namespace mlir;

namespace winnow {
namespace {

DialectRegistry registry() {
  DialectRegistry dialects;
  cpu::registerCpuDialects(dialects);
  dialects.insert<select::SelectDialect, tile::TileDialect>();
  return dialects;
}

constexpr int kLanes = cpu::kLanes;

/// A public function around each region's: bare pointers to 16 of each.
std::string probes(size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i)
    text += fmt::format(R"(
func.func private @region{0}(vector<16xf32>, vector<16xi32>, vector<16xi32>) -> vector<16xf32>
func.func @probe{0}(%v: memref<16xf32>, %q: memref<16xi32>, %k: memref<16xi32>, %o: memref<16xf32>) {{
  %c0 = arith.constant 0 : index
  %value = vector.load %v[%c0] : memref<16xf32>, vector<16xf32>
  %query = vector.load %q[%c0] : memref<16xi32>, vector<16xi32>
  %key = vector.load %k[%c0] : memref<16xi32>, vector<16xi32>
  %x = func.call @region{0}(%value, %query, %key) : (vector<16xf32>, vector<16xi32>, vector<16xi32>) -> vector<16xf32>
  vector.store %x, %o[%c0] : memref<16xf32>, vector<16xf32>
  return
}})",
                        i);
  return text;
}

void write(const std::filesystem::path &path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

} // namespace

Regions::Regions() : context(registry(), MLIRContext::Threading::DISABLED) {
  context.loadAllAvailableDialects();
}

void Regions::add(const std::string &region) {
  std::string complaint;
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    complaint += diagnostic.str();
    return success();
  });
  auto module = parseSourceString<ModuleOp>(methodWith(region), ParserConfig(&context));
  ASSERT_TRUE(module) << complaint << "\n" << region;
  module->walk([&](select::AttendOp attend) { regions.push_back(&attend.getRewrite()); });
  modules.push_back(std::move(module));
  texts.push_back(region);
}

std::vector<std::vector<float>> Regions::reference(const std::vector<RegionInput> &inputs) {
  std::vector<std::vector<float>> results;
  for (size_t i = 0; i < regions.size(); ++i) {
    results.emplace_back();
    Result<RegionCode> code = RegionCode::of(*regions[i]);
    EXPECT_TRUE(code) << code.error().message << "\n" << texts[i];
    for (const RegionInput &input : inputs)
      results.back().push_back(
          code ? static_cast<float>((*code)(input.value, input.query, input.key)) : 0);
  }
  return results;
}

std::vector<std::vector<float>> Regions::cpu(const std::vector<RegionInput> &inputs) {
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  for (size_t i = 0; i < regions.size(); ++i)
    cpu::addRegionFunction(*module, "region" + std::to_string(i), regions[i]);
  Block parsed;
  ParserConfig config(&context, /*verifyAfterParse=*/false);
  std::string text = probes(regions.size());
  // The declarations are there for the parser only.
  EXPECT_TRUE(succeeded(parseSourceString(text, &parsed, config)));
  for (auto function : llvm::make_early_inc_range(parsed.getOps<func::FuncOp>()))
    if (function.isExternal())
      function.erase();
  module->getBody()->getOperations().splice(module->getBody()->end(), parsed.getOperations());
  auto code = cpu::CpuCode::create(*module);
  EXPECT_TRUE(code) << (code ? "" : code.error().message);
  std::vector<std::vector<float>> results(regions.size());
  for (size_t i = 0; code && i < regions.size(); ++i) {
    using Probe = void (*)(const float *, const int32_t *, const int32_t *, float *);
    auto probe = reinterpret_cast<Probe>((*code)->find("probe" + std::to_string(i)));
    EXPECT_NE(probe, nullptr);
    for (size_t first = 0; probe && first < inputs.size(); first += kLanes) {
      alignas(64) float value[kLanes], out[kLanes];
      alignas(64) int32_t query[kLanes], key[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) {
        const RegionInput &input = inputs[std::min(first + lane, inputs.size() - 1)];
        value[lane] = input.value, query[lane] = input.query, key[lane] = input.key;
      }
      probe(value, query, key, out);
      for (int lane = 0; lane < kLanes && first + lane < inputs.size(); ++lane)
        results[i].push_back(out[lane]);
    }
  }
  return results;
}

std::string Regions::hooks() {
  std::string text;
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  OpBuilder b = OpBuilder::atBlockEnd(module->getBody());
  for (size_t i = 0; i < regions.size(); ++i) {
    Location loc = NameLoc::get(b.getStringAttr("hook" + std::to_string(i)));
    auto hook = tile::HookOp::create(b, loc);
    IRMapping mapping;
    regions[i]->cloneInto(&hook.getBody(), mapping);
    text += emitHook(hook);
  }
  return text;
}

std::vector<std::vector<float>> Regions::printed(const std::vector<RegionInput> &inputs) {
  namespace fs = std::filesystem;
  std::string pattern = fs::temp_directory_path() / "winnow-regions-XXXXXX";
  const fs::path folder = mkdtemp(pattern.data());
  fs::create_directory(folder / "winnow");
  for (const EmbeddedFile &file : embeddedDeviceHeaders()) { // the emulator's in place of the GPU's
    std::string name(file.name);
    if (name != "scalar.cuh")
      write(folder / "winnow" / (name == "emulated_scalar.cuh" ? "scalar.cuh" : name), file.text);
  }
  std::string source =
      "#include \"winnow/emulated.cuh\"\n" + hooks() +
      "using Hook = float (*)(float, int, int);\n"
      "extern \"C\" __attribute__((visibility(\"default\"))) Hook const hooks[] = {";
  for (size_t i = 0; i < regions.size(); ++i)
    source += fmt::format("{}hook{}", i ? ", " : "", i);
  write(folder / "regions.cpp", source + "};\n");
  std::string command =
      fmt::format("{} -std=c++17 -O1 -ffp-contract=off -fPIC -shared -w "
                  "-I{} {}/regions.cpp -o {}/regions.so -lm",
                  WINNOW_HOST_COMPILER, folder.string(), folder.string(), folder.string());
  std::vector<std::vector<float>> results(regions.size());
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  void *library = dlopen((folder / "regions.so").c_str(), RTLD_NOW);
  EXPECT_NE(library, nullptr);
  using Hook = float (*)(float, int, int);
  auto *table = library ? static_cast<Hook *>(dlsym(library, "hooks")) : nullptr;
  EXPECT_NE(table, nullptr);
  for (size_t i = 0; table && i < regions.size(); ++i)
    for (const RegionInput &input : inputs)
      results[i].push_back(table[i](input.value, input.query, input.key));
  if (library)
    dlclose(library);
  fs::remove_all(folder);
  return results;
}

std::string Regions::derivative(size_t region) {
  OwningOpRef<ModuleOp> copy = modules[region]->clone();
  std::string text;
  copy->walk([&](select::AttendOp attend) {
    attend.getRewrite().getBlocks().clear();
    if (!deriveRegion(*regions[region], attend.getRewrite()))
      llvm::raw_string_ostream(text) << attend;
  });
  if (text.empty())
    return {};
  const size_t begin = text.find("rewrite {") + std::string("rewrite {\n").size();
  return text.substr(begin, text.rfind('}') - begin);
}

std::vector<std::vector<float>> Regions::slopes(const std::vector<RegionInput> &inputs) {
  std::vector<std::vector<float>> results;
  for (Region *region : regions) {
    results.emplace_back();
    Result<RegionCode> code = RegionCode::of(*region);
    for (const RegionInput &input : inputs)
      results.back().push_back(code && code->hasSlope() ? static_cast<float>(code->slope(
                                                              input.value, input.query, input.key))
                                                        : std::nanf(""));
  }
  return results;
}

std::string Regions::kernel() {
  std::string text = "#include \"winnow/sm80.cuh\"\n"
                     "extern \"C\" __global__ void regions(const float *value, float *out) {\n"
                     "const float x = value[threadIdx.x];\nconst int i = threadIdx.x;\n" +
                     hooks();
  for (size_t i = 0; i < regions.size(); ++i)
    text += fmt::format("out[{0} * blockDim.x + i] = hook{0}(x, i, int(x));\n", i);
  return text + "}\n";
}

} // namespace winnow
