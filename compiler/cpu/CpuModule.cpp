// Text of the tile functions. Products are linalg.matmul on memrefs, which the lowering tiles and
// vectorises; everything elementwise is written on vectors of 16 lanes directly. Masked logits get
// a large finite negative number, so that no infinity meets another; the running maximum starts
// higher (see CpuAttend.cpp).
#include "compiler/cpu/CpuModule.h"
#include "compiler/cpu/CpuRegion.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow::cpu {
namespace {

/// Replaces $NAME$ in a text.
std::string fill(StringRef text, ArrayRef<std::pair<StringRef, std::string>> values) {
  std::string result;
  while (!text.empty()) {
    auto [before, rest] = text.split('$');
    result += before;
    if (rest.empty())
      break;
    auto [name, after] = rest.split('$');
    for (const auto &[key, value] : values)
      if (key == name)
        result += value;
    text = after;
  }
  return result;
}

/// One step of attention: logits, scale, region, mask, online softmax, product with the values.
constexpr const char *kAttend = R"(
func.func @attend_$NAME$(%q: memref<$R$x$D$xf32>, %kt: memref<$D$x64xf32>, %v: memref<64x$E$xf32>, %s: memref<$R$x64xf32>,
    %acc: memref<$R$x$E$xf32>, %max: memref<$R$xf32>, %sum: memref<$R$xf32>, %limit: memref<$R$xi32>,
    %position: memref<$R$xi32>, %first: memref<1xi32>) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %c1 = arith.constant 1 : index
  %keys = arith.constant 64 : index
  %rows = arith.constant $R$ : index
  %value_dim = arith.constant $E$ : index
  %zero = arith.constant 0.0 : f32
  %zeros = arith.constant dense<0.0> : vector<16xf32>
  %hidden = arith.constant dense<-3.0e38> : vector<16xf32>
  %scale = arith.constant dense<$SCALE$> : vector<16xf32>
  %lane = vector.step : vector<16xindex>
  %lanes = arith.index_cast %lane : vector<16xindex> to vector<16xi32>
  %first_key = memref.load %first[%c0] : memref<1xi32>
  linalg.fill ins(%zero : f32) outs(%s : memref<$R$x64xf32>)
  linalg.matmul ins(%q, %kt : memref<$R$x$D$xf32>, memref<$D$x64xf32>) outs(%s : memref<$R$x64xf32>)
  scf.for %r = %c0 to %rows step %c1 {
    %visible = memref.load %limit[%r] : memref<$R$xi32>
    %visibles = vector.broadcast %visible : i32 to vector<16xi32>
    %at = memref.load %position[%r] : memref<$R$xi32>
    %query = vector.broadcast %at : i32 to vector<16xi32>
    %top = scf.for %c = %c0 to %keys step %c16 iter_args(%m = %hidden) -> (vector<16xf32>) {
      %raw = vector.load %s[%r, %c] : memref<$R$x64xf32>, vector<16xf32>
      %scaled = arith.mulf %raw, %scale : vector<16xf32>
      %column = arith.index_cast %c : index to i32
      %columns0 = vector.broadcast %column : i32 to vector<16xi32>
      %columns = arith.addi %columns0, %lanes : vector<16xi32>
      %base = vector.broadcast %first_key : i32 to vector<16xi32>
      %key = arith.addi %base, %columns : vector<16xi32>
      %x = func.call @logit_hook(%scaled, %query, %key) : (vector<16xf32>, vector<16xi32>, vector<16xi32>) -> vector<16xf32>
      %seen = arith.cmpi slt, %columns, %visibles : vector<16xi32>
      %masked = arith.select %seen, %x, %hidden : vector<16xi1>, vector<16xf32>
      vector.store %masked, %s[%r, %c] : memref<$R$x64xf32>, vector<16xf32>
      %next = arith.maximumf %m, %masked : vector<16xf32>
      scf.yield %next : vector<16xf32>
    }
    %tile_max = vector.reduction <maximumf>, %top : vector<16xf32> into f32
    %old = memref.load %max[%r] : memref<$R$xf32>
    %new = arith.maximumf %old, %tile_max : f32
    memref.store %new, %max[%r] : memref<$R$xf32>
    %news = vector.broadcast %new : f32 to vector<16xf32>
    %total = scf.for %c = %c0 to %keys step %c16 iter_args(%t = %zeros) -> (vector<16xf32>) {
      %x = vector.load %s[%r, %c] : memref<$R$x64xf32>, vector<16xf32>
      %below = arith.subf %x, %news : vector<16xf32>
      %p = math.exp %below : vector<16xf32>
      vector.store %p, %s[%r, %c] : memref<$R$x64xf32>, vector<16xf32>
      %next = arith.addf %t, %p : vector<16xf32>
      scf.yield %next : vector<16xf32>
    }
    %part = vector.reduction <add>, %total : vector<16xf32> into f32
    %raised = arith.cmpf ogt, %new, %old : f32
    %fall = arith.subf %old, %new : f32
    %correction = math.exp %fall : f32
    %l = memref.load %sum[%r] : memref<$R$xf32>
    %kept = arith.mulf %l, %correction : f32
    %sum_next = arith.addf %kept, %part : f32
    memref.store %sum_next, %sum[%r] : memref<$R$xf32>
    scf.if %raised {
      %corrections = vector.broadcast %correction : f32 to vector<16xf32>
      scf.for %c = %c0 to %value_dim step %c16 {
        %o = vector.load %acc[%r, %c] : memref<$R$x$E$xf32>, vector<16xf32>
        %o2 = arith.mulf %o, %corrections : vector<16xf32>
        vector.store %o2, %acc[%r, %c] : memref<$R$x$E$xf32>, vector<16xf32>
      }
    }
  }
  linalg.matmul ins(%s, %v : memref<$R$x64xf32>, memref<64x$E$xf32>) outs(%acc : memref<$R$x$E$xf32>)
  return
})";

/// What a tile of keys means for the gradients of some rows: weights P = exp(L - lse) of the logits
/// L that the region makes of scaled ones, and dS = P (dO V - delta) dL/dS. A hidden key has 0 for
/// both, whatever the region's derivative is there.
constexpr const char *kWeigh = R"(
func.func @weigh_$NAME$(%q: memref<$R$x$D$xf32>, %kt: memref<$D$x64xf32>, %dout: memref<$R$x$E$xf32>, %vt: memref<$E$x64xf32>,
    %lse: memref<$R$xf32>, %delta: memref<$R$xf32>, %limit: memref<$R$xi32>, %position: memref<$R$xi32>, %first: memref<1xi32>,
    %p: memref<$R$x64xf32>, %ds: memref<$R$x64xf32>) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %c1 = arith.constant 1 : index
  %keys = arith.constant 64 : index
  %rows = arith.constant $R$ : index
  %zero = arith.constant 0.0 : f32
  %zeros = arith.constant dense<0.0> : vector<16xf32>
  %scale = arith.constant dense<$SCALE$> : vector<16xf32>
  %lane = vector.step : vector<16xindex>
  %lanes = arith.index_cast %lane : vector<16xindex> to vector<16xi32>
  %first_key = memref.load %first[%c0] : memref<1xi32>
  %base = vector.broadcast %first_key : i32 to vector<16xi32>
  linalg.fill ins(%zero : f32) outs(%p : memref<$R$x64xf32>)
  linalg.fill ins(%zero : f32) outs(%ds : memref<$R$x64xf32>)
  linalg.matmul ins(%q, %kt : memref<$R$x$D$xf32>, memref<$D$x64xf32>) outs(%p : memref<$R$x64xf32>)
  linalg.matmul ins(%dout, %vt : memref<$R$x$E$xf32>, memref<$E$x64xf32>) outs(%ds : memref<$R$x64xf32>)
  scf.for %r = %c0 to %rows step %c1 {
    %visible = memref.load %limit[%r] : memref<$R$xi32>
    %visibles = vector.broadcast %visible : i32 to vector<16xi32>
    %at = memref.load %position[%r] : memref<$R$xi32>
    %query = vector.broadcast %at : i32 to vector<16xi32>
    %n = memref.load %lse[%r] : memref<$R$xf32>
    %ns = vector.broadcast %n : f32 to vector<16xf32>
    %d = memref.load %delta[%r] : memref<$R$xf32>
    %dots = vector.broadcast %d : f32 to vector<16xf32>
    scf.for %c = %c0 to %keys step %c16 {
      %raw = vector.load %p[%r, %c] : memref<$R$x64xf32>, vector<16xf32>
      %scaled = arith.mulf %raw, %scale : vector<16xf32>
      %column = arith.index_cast %c : index to i32
      %columns0 = vector.broadcast %column : i32 to vector<16xi32>
      %columns = arith.addi %columns0, %lanes : vector<16xi32>
      %key = arith.addi %base, %columns : vector<16xi32>
      %x = func.call @logit_hook(%scaled, %query, %key) : (vector<16xf32>, vector<16xi32>, vector<16xi32>) -> vector<16xf32>
      %below = arith.subf %x, %ns : vector<16xf32>
      %power = math.exp %below : vector<16xf32>
      %seen = arith.cmpi slt, %columns, %visibles : vector<16xi32>
      %weight = arith.select %seen, %power, %zeros : vector<16xi1>, vector<16xf32>
      vector.store %weight, %p[%r, %c] : memref<$R$x64xf32>, vector<16xf32>
      %dp = vector.load %ds[%r, %c] : memref<$R$x64xf32>, vector<16xf32>
      %difference = arith.subf %dp, %dots : vector<16xf32>
      %slope = func.call @slope_hook(%scaled, %query, %key) : (vector<16xf32>, vector<16xi32>, vector<16xi32>) -> vector<16xf32>
      %steep = arith.mulf %weight, %slope : vector<16xf32>
      %gradient = arith.mulf %steep, %difference : vector<16xf32>
      %counts = arith.cmpf ogt, %weight, %zeros : vector<16xf32>
      %masked = arith.select %counts, %gradient, %zeros : vector<16xi1>, vector<16xf32>
      vector.store %masked, %ds[%r, %c] : memref<$R$x64xf32>, vector<16xf32>
    }
  }
  return
}
func.func @add_queries_$NAME$(%ds: memref<$R$x64xf32>, %k: memref<64x$D$xf32>, %dq: memref<$R$x$D$xf32>) {
  linalg.matmul ins(%ds, %k : memref<$R$x64xf32>, memref<64x$D$xf32>) outs(%dq : memref<$R$x$D$xf32>)
  return
})";

/// What some rows add to the gradients of a tile of keys and values.
constexpr const char *kAddKeys = R"(
func.func @add_keys(%p: memref<$R$x64xf32>, %ds: memref<$R$x64xf32>, %q: memref<$R$x$D$xf32>, %dout: memref<$R$x$E$xf32>,
    %pt: memref<64x$R$xf32>, %dst: memref<64x$R$xf32>, %dk: memref<64x$D$xf32>, %dv: memref<64x$E$xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %keys = arith.constant 64 : index
  %rows = arith.constant $R$ : index
  scf.for %r = %c0 to %rows step %c1 {
    scf.for %c = %c0 to %keys step %c1 {
      %a = memref.load %p[%r, %c] : memref<$R$x64xf32>
      memref.store %a, %pt[%c, %r] : memref<64x$R$xf32>
      %b = memref.load %ds[%r, %c] : memref<$R$x64xf32>
      memref.store %b, %dst[%c, %r] : memref<64x$R$xf32>
    }
  }
  linalg.matmul ins(%dst, %q : memref<64x$R$xf32>, memref<$R$x$D$xf32>) outs(%dk : memref<64x$D$xf32>)
  linalg.matmul ins(%pt, %dout : memref<64x$R$xf32>, memref<$R$x$E$xf32>) outs(%dv : memref<64x$E$xf32>)
  return
})";

/// Products with summaries, running log-sum-exp, and scores combined over heads.
constexpr const char *kScore = R"(
func.func @logits(%q: memref<64x$D$xf32>, %kt: memref<$D$x64xf32>, %s: memref<64x64xf32>) {
  %zero = arith.constant 0.0 : f32
  linalg.fill ins(%zero : f32) outs(%s : memref<64x64xf32>)
  linalg.matmul ins(%q, %kt : memref<64x$D$xf32>, memref<$D$x64xf32>) outs(%s : memref<64x64xf32>)
  return
}
func.func @add_lse(%s: memref<64x64xf32>, %max: memref<64xf32>, %sum: memref<64xf32>, %limit: memref<64xi32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c16 = arith.constant 16 : index
  %c64 = arith.constant 64 : index
  %zeros = arith.constant dense<0.0> : vector<16xf32>
  %hidden = arith.constant dense<-3.0e38> : vector<16xf32>
  %scale = arith.constant dense<$SCALE$> : vector<16xf32>
  %lane = vector.step : vector<16xindex>
  scf.for %r = %c0 to %c64 step %c1 {
    %visible = memref.load %limit[%r] : memref<64xi32>
    %visible_index = arith.index_cast %visible : i32 to index
    %visibles = vector.broadcast %visible_index : index to vector<16xindex>
    %old = memref.load %max[%r] : memref<64xf32>
    %top = scf.for %c = %c0 to %c64 step %c16 iter_args(%m = %hidden) -> (vector<16xf32>) {
      %x = func.call @masked(%s, %r, %c, %visibles) : (memref<64x64xf32>, index, index, vector<16xindex>) -> vector<16xf32>
      %next = arith.maximumf %m, %x : vector<16xf32>
      scf.yield %next : vector<16xf32>
    }
    %tile_max = vector.reduction <maximumf>, %top : vector<16xf32> into f32
    %new = arith.maximumf %old, %tile_max : f32
    %news = vector.broadcast %new : f32 to vector<16xf32>
    %total = scf.for %c = %c0 to %c64 step %c16 iter_args(%t = %zeros) -> (vector<16xf32>) {
      %x = func.call @masked(%s, %r, %c, %visibles) : (memref<64x64xf32>, index, index, vector<16xindex>) -> vector<16xf32>
      %below = arith.subf %x, %news : vector<16xf32>
      %p = math.exp %below : vector<16xf32>
      %next = arith.addf %t, %p : vector<16xf32>
      scf.yield %next : vector<16xf32>
    }
    %part = vector.reduction <add>, %total : vector<16xf32> into f32
    %fall = arith.subf %old, %new : f32
    %correction = math.exp %fall : f32
    %l = memref.load %sum[%r] : memref<64xf32>
    %kept = arith.mulf %l, %correction : f32
    %sum_next = arith.addf %kept, %part : f32
    memref.store %sum_next, %sum[%r] : memref<64xf32>
    memref.store %new, %max[%r] : memref<64xf32>
  }
  return
}
func.func private @masked(%s: memref<64x64xf32>, %r: index, %c: index, %visibles: vector<16xindex>) -> vector<16xf32> {
  %hidden = arith.constant dense<-3.0e38> : vector<16xf32>
  %scale = arith.constant dense<$SCALE$> : vector<16xf32>
  %lane = vector.step : vector<16xindex>
  %first = vector.broadcast %c : index to vector<16xindex>
  %columns = arith.addi %first, %lane : vector<16xindex>
  %raw = vector.load %s[%r, %c] : memref<64x64xf32>, vector<16xf32>
  %x = arith.mulf %raw, %scale : vector<16xf32>
  %seen = arith.cmpi slt, %columns, %visibles : vector<16xindex>
  %masked = arith.select %seen, %x, %hidden : vector<16xi1>, vector<16xf32>
  return %masked : vector<16xf32>
}
func.func @scores(%s: memref<64x64xf32>, %lse: memref<64xf32>, %limit: memref<64xi32>, %position: memref<64xi32>,
    %first: memref<1xi32>, %out: memref<$T$x64xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c16 = arith.constant 16 : index
  %c64 = arith.constant 64 : index
  %tokens = arith.constant $T$ : index
  %group = arith.constant $G$ : index
  %neutral = arith.constant dense<$NEUTRAL$> : vector<16xf32>
  %hidden = arith.constant dense<$HIDDEN$> : vector<16xf32>
  %scale = arith.constant dense<$SCALE$> : vector<16xf32>
  %lane = vector.step : vector<16xindex>
  %lanes = arith.index_cast %lane : vector<16xindex> to vector<16xi32>
  %first_row = memref.load %first[%c0] : memref<1xi32>
  scf.for %t = %c0 to %tokens step %c1 {
    %r0 = arith.muli %t, %group : index
    scf.for %c = %c0 to %c64 step %c16 {
      %column = arith.index_cast %c : index to i32
      %column0 = vector.broadcast %column : i32 to vector<16xi32>
      %columns = arith.addi %column0, %lanes : vector<16xi32>
      %base = vector.broadcast %first_row : i32 to vector<16xi32>
      %row = arith.addi %base, %columns : vector<16xi32>
      %at = memref.load %position[%r0] : memref<64xi32>
      %query = vector.broadcast %at : i32 to vector<16xi32>
      %all = scf.for %g = %c0 to %group step %c1 iter_args(%a = %neutral) -> (vector<16xf32>) {
        %r = arith.addi %r0, %g : index
        %raw = vector.load %s[%r, %c] : memref<64x64xf32>, vector<16xf32>
        %x = arith.mulf %raw, %scale : vector<16xf32>
        %n = memref.load %lse[%r] : memref<64xf32>
        %ns = vector.broadcast %n : f32 to vector<16xf32>
        $SCORE$
        %next = arith.$COMBINE$ %a, %y : vector<16xf32>
        scf.yield %next : vector<16xf32>
      }
      %visible = memref.load %limit[%r0] : memref<64xi32>
      %visibles = vector.broadcast %visible : i32 to vector<16xi32>
      %seen = arith.cmpi slt, %columns, %visibles : vector<16xi32>
      %masked = arith.select %seen, %all, %hidden : vector<16xi1>, vector<16xf32>
      vector.store %masked, %out[%t, %c] : memref<$T$x64xf32>, vector<16xf32>
    }
  }
  return
})";

} // namespace

OwningOpRef<ModuleOp> buildTileFunctions(MLIRContext &context, const MethodPlans &plans) {
  const AttendPlan &attend = plans.attend;
  auto number = [](int value) { return std::to_string(value); };
  auto real = [](double value) { return llvm::formatv("{0:e9}", value).str(); };
  std::string text;
  auto add = [&](const char *function, const char *name, int rows) {
    text += fill(function, {{"NAME", name},
                            {"R", number(rows)},
                            {"D", number(attend.headDim)},
                            {"E", number(attend.valueDim)},
                            {"SCALE", real(attend.scale)}});
  };
  const int many = kTileRows / attend.group * attend.group; // whole tokens
  for (auto [name, rows] : {std::pair<const char *, int>{"one", attend.group}, {"many", many}}) {
    add(kAttend, name, rows);
    if (plans.backward)
      add(kWeigh, name, rows);
  }
  if (plans.backward)
    add(kAddKeys, "", many);
  if (plans.selection && plans.selection->scores()) {
    const SelectionPlan &plan = *plans.selection;
    const bool softmax = plan.normalizer >= 0;
    const bool isMax = plan.combine == Reduction::Max;
    text +=
        fill(kScore,
             {{"D", number(plan.headDim)},
              {"G", number(plan.group)},
              {"T", number(kTileRows / plan.group)},
              {"SCALE", real(plan.scale)},
              {"NEUTRAL", isMax ? "0xFF800000" : "0.0"},
              {"HIDDEN", softmax ? "0.0" : "0xFF800000"},
              {"COMBINE", isMax ? "maximumf" : "addf"},
              {"SCORE", softmax ? "%below = arith.subf %x, %ns : vector<16xf32>\n"
                                  "        %y = math.exp %below : vector<16xf32>"
                                : "%y = func.call @score_hook(%x, %query, %row) : (vector<16xf32>, "
                                  "vector<16xi32>, vector<16xi32>) -> vector<16xf32>"}});
  }
  // The functions call the hooks, so the hooks' declarations stand in the same text's module.
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  addRegionFunction(*module, "logit_hook", attend.logitHook);
  if (plans.backward)
    addSlopeFunction(*module, "slope_hook", plans.backward->slopeHook);
  addRegionFunction(*module, "score_hook", plans.selection ? plans.selection->scoreHook : nullptr);
  ParserConfig config(&context, /*verifyAfterParse=*/false);
  Block parsed;
  if (failed(parseSourceString(text, &parsed, config)))
    return {};
  module->getBody()->getOperations().splice(module->getBody()->end(), parsed.getOperations());
  return module;
}

} // namespace winnow::cpu
