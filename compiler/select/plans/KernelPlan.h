// What every kernel of a method knows, before the plan of each adds what its own steps say: the
// numbers of the spec, and how query heads share a selection. Plans are made once, from a method
// that is specialised and fused; builders and the CPU target read them, and no select op again. No
// method's name has a meaning in them.
#pragma once
#include "dialect/select/Select.h"
#include "runtime/program/CrossingPoints.h"
#include <optional>
#include <string>

namespace winnow {

constexpr int kDecodeTokens = 16; ///< most query tokens of a sequence that the decode kernels take

enum class Reduction { Sum, Max };
/// Overlap: a sum that counts each row as often as its window shares a stride with the block.
enum class Pooling { Sum, Max, Overlap };

struct KernelPlan {
  std::string method; ///< for the title of the printed kernels only
  int heads = 0, kvHeads = 0, headDim = 0, block = 0, topk = 0;
  mlir::Type element; ///< bf16 or f16
  bool isBf16 = false;
  mlir::Type keyElement;     ///< of keys and values: `element`, or fp8
  mlir::Type productElement; ///< of what they are multiplied by: `element`, or fp16 beside fp8
  double scale = 0;          ///< softmax scale
  bool paged = false;        ///< tensors by strides, keys by lengths and page tables
  /// Query heads that share one selection: heads / kvHeads, or 1 for one selection per head.
  int group = 0;
  int denseLength = -1;                   ///< shorter sequences attend to every key; -1: none
  std::optional<CrossingPoints> crossing; ///< in its place where dense_len is `auto`
  /// Key tiles of a part of a token's keys at decode, at least; 0: as attend_decode chooses. All
  /// kernels of decode must know the same.
  int decodePartTiles = 0;

  KernelPlan() = default;
  /// What the spec of a specialised method says, and the attention that its kernels serve: its
  /// dense_len is a number, or `auto` with its points.
  explicit KernelPlan(select::AttendOp attend);
  bool hasFp8Keys() const { return keyElement != element; }
  int keyElementBytes() const { return hasFp8Keys() ? 1 : 2; }
  int selectHeads() const { return heads / group; }
};

// How a plan is read off the steps of a kernel.
/// The step that made a value, seen through the boundary of a kernel.
mlir::Operation *origin(mlir::Value value);
/// A setting that specialisation has made a number.
int number(mlir::Attribute setting);
/// Fails with the place of `op` in the method's text.
tl::unexpected<Error> refuse(mlir::Operation *op, ErrorKind kind, const std::string &why);
/// Whether what a region holds, if there is one, means the same on every target. Error:
/// Unsupported.
Status checkHook(mlir::Region *region);

} // namespace winnow
