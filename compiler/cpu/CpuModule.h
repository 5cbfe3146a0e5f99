// The CPU target's tile functions: a specialised method as linalg, scf and vector ops over small
// static tiles. The host (CpuSelect.cpp, CpuAttend.cpp) walks tokens and blocks and calls them; the
// method's regions are cloned into them.
#pragma once
#include "compiler/select/plans/MethodPlans.h"

namespace winnow::cpu {

constexpr int kKeys = 64;     ///< keys (or summary rows) of one tile
constexpr int kTileRows = 64; ///< query rows of a tile of several whole tokens, at most

/// Names of the tile functions; all take bare pointers to row-major f32 or i32 tiles, shapes below
/// in brackets. R is the plan's group for `attend_one`, kTileRows for the others; D the head
/// dimension; limits count visible columns.
///   attend_one, attend_many (q [R,D], kT [D,64], v [64,D], scratch [R,64], acc [R,D], max [R], sum
///   [R], limit [R] i32,
///                            position [R] i32, first_key [1] i32)        one step of online
///                            softmax attention
///   logits      (q [64,D], kT [D,64], out [64,64])                       out = q kT
///   add_lse     (logits [64,64], max [64], sum [64], limit [64] i32)     running log-sum-exp of
///   scaled logits scores      (logits [64,64], lse [64], limit [64] i32, position [64] i32,
///   first_row [1] i32,
///                out [64 / group, 64])                                   scores, heads combined
/// And of methods with gradients, for R rows as above:
///   weigh_one, weigh_many (q [R,D], kT [D,64], dout [R,E], vT [E,64], lse [R], delta [R], limit
///   [R]
///                          i32, position [R] i32, first_key [1] i32, p [R,64], ds [R,64])
///                                              softmax weights, and gradients of raw logits
///   add_queries_one, add_queries_many (ds [R,64], k [64,D], dq [R,D])    dq += ds k
///   add_keys    (p [R,64], ds [R,64], q [R,D], dout [R,E], pT [64,R], dsT [64,R], dk [64,D], dv
///                [64,E])       dk += dsT q, dv += pT dout; R is that of *_many, pT and dsT scratch
/// Adds the functions for `plans` to a new module in `context`.
mlir::OwningOpRef<mlir::ModuleOp> buildTileFunctions(mlir::MLIRContext &context,
                                                     const MethodPlans &plans);

} // namespace winnow::cpu
