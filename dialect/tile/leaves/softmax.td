// Attention of a row tile: masks, online softmax, results. How leaves are declared: Leaf.td.
#ifndef WINNOW_DIALECT_TILE_SOFTMAX
#define WINNOW_DIALECT_TILE_SOFTMAX

include "dialect/tile/Leaf.td"

def Tile_SoftmaxGroup : OpDocGroup {
  let summary = "Leaves: softmax";
  let description = "Attention of a row tile: masks, online softmax, results.";
}

let opDocGroup = Tile_SoftmaxGroup in {
def Tile_MaskCausalOp : Tile_Leaf<"mask_causal", "attend/attention.cuh"> {
  let summary = "Hides keys behind each row's position";
  let arguments = (ins Updates<Accumulator>:$logits, Takes<QueryRows>:$rows, I32:$first_key);
}
def Tile_MapLogitsOp : Tile_Leaf<"map_logits", "attend/attention.cuh"> {
  let summary = "Applies the method's elementwise region to scaled logits";
  let arguments = (ins Updates<Accumulator>:$logits, Takes<QueryRows>:$rows, I32:$first_key, F32:$scale,
                       Takes<Hook>:$hook);
}
def Tile_RaiseMaximumOp : Tile_Leaf<"raise_maximum", "attend/attention.cuh"> {
  let summary = "Raises the rows' running maxima where they must; true if sums and output have to be rescaled";
  let source = "raises where an exponent of 2 would exceed 8: FlashAttention-4's lazy rescale";
  let arguments = (ins Updates<SoftmaxState>:$state, Reads<Accumulator>:$logits, F32:$scale);
  let results = (outs I1:$raised);
}
def Tile_RaiseWantedMaximumOp : Tile_Leaf<"raise_wanted_maximum", "attend/attention.cuh"> {
  let summary = "The same where only some tokens want the key tile";
  let source = "raises where an exponent of 2 would exceed 8: FlashAttention-4's lazy rescale";
  let arguments = (ins Updates<SoftmaxState>:$state, Reads<Accumulator>:$logits, Takes<QueryRows>:$rows, I32:$wants,
                       F32:$scale);
  let results = (outs I1:$raised);
}
def Tile_RescaleRowsOp : Tile_Leaf<"rescale_rows", "attend/attention.cuh"> {
  let summary = "Rescales the output rows after a raise of the maxima";
  let arguments = (ins Updates<Accumulator>:$output, Reads<SoftmaxState>:$state);
}
def Tile_ExponentiateOp : Tile_Leaf<"exponentiate", "attend/attention.cuh"> {
  let summary = "Turns logits into softmax weights in place and adds their row sums to the state";
  let source = "weight = 2^(scale * logit - scale * maximum): online softmax, Milakov and Gimelshein, arXiv:1805.02867";
  let arguments = (ins Updates<Accumulator>:$logits, Updates<SoftmaxState>:$state, F32:$scale);
}
def Tile_ExponentiateWantedOp : Tile_Leaf<"exponentiate_wanted", "attend/attention.cuh"> {
  let summary = "The same where only some tokens want the key tile: the others' weights are 0";
  let source = "weight = 2^(scale * logit - scale * maximum): online softmax, Milakov and Gimelshein, arXiv:1805.02867";
  let arguments = (ins Updates<Accumulator>:$logits, Updates<SoftmaxState>:$state, Takes<QueryRows>:$rows, I32:$wants,
                       F32:$scale);
}
def Tile_ReduceSumOp : Tile_Leaf<"reduce_sum", "attend/attention.cuh"> {
  let summary = "Completes the row sums over the lanes that share a row";
  let arguments = (ins Updates<SoftmaxState>:$state);
}
def Tile_StoreOutputOp : Tile_Leaf<"store_output", "attend/attention.cuh"> {
  let summary = "Writes output rows, divided by their sums";
  let arguments = (ins Template:$heads, Template:$type, Stores<Heads>:$out, Reads<Accumulator>:$output,
                       Reads<SoftmaxState>:$state, Takes<QueryRows>:$rows, I32:$first_head);
}
def Tile_StoreLseOp : Tile_Leaf<"store_lse", "attend/attention.cuh"> {
  let summary = "Writes the rows' log-sum-exp";
  let source = "lse = (scale * maximum + log2 sum) ln 2";
  let arguments = (ins Stores<Pointer>:$lse, Reads<SoftmaxState>:$state, Takes<QueryRows>:$rows, I32:$first_head,
                       I32:$total_q, F32:$scale);
}
def Tile_ReadStepOp : Tile_Leaf<"read_step", "attend/attention_step.cuh"> {
  let summary = "Where the keys of a step lie, and which tokens of the warp want them";
  let arguments = (ins Template:$keys, Template:$warp_tokens, Writes<StepKeys>:$step, Reads<WorkList>:$list,
                       I32:$entry, I32:$warp);
}
def Tile_IsWantedOp : Tile_Leaf<"is_wanted", "attend/attention_step.cuh"> {
  let summary = "Whether any token of the warp wants any part of the step";
  let arguments = (ins Reads<StepKeys>:$step);
  let results = (outs I1:$wanted);
}
def Tile_MaskStepOp : Tile_Leaf<"mask_step", "attend/attention_step.cuh"> {
  let summary = "Hides keys behind each row's position";
  let arguments = (ins Updates<Accumulator>:$logits, Takes<QueryRows>:$rows, Reads<StepKeys>:$step);
}
def Tile_MapStepOp : Tile_Leaf<"map_step", "attend/attention_step.cuh"> {
  let summary = "Applies the method's elementwise region to scaled logits";
  let arguments = (ins Updates<Accumulator>:$logits, Takes<QueryRows>:$rows, Reads<StepKeys>:$step, F32:$scale,
                       Takes<Hook>:$hook);
}
def Tile_RaiseStepMaximumOp : Tile_Leaf<"raise_step_maximum", "attend/attention_step.cuh"> {
  let summary = "Raises the rows' maxima where they must; true if the output has to be rescaled";
  let source = "raises where an exponent of 2 would exceed 8: FlashAttention-4's lazy rescale";
  let arguments = (ins Updates<SoftmaxState>:$state, Reads<Accumulator>:$logits, Takes<QueryRows>:$rows,
                       Reads<StepKeys>:$step, F32:$scale);
  let results = (outs I1:$raised);
}
def Tile_ExponentiateStepOp : Tile_Leaf<"exponentiate_step", "attend/attention_step.cuh"> {
  let summary = "Turns logits into weights, 0 where the row's token does not want the part, and sums them";
  let source = "weight = 2^(scale * logit - scale * maximum): online softmax, Milakov and Gimelshein, arXiv:1805.02867";
  let arguments = (ins Template:$fma_columns, Writes<StepSums>:$sums, Updates<Accumulator>:$logits,
                       Reads<SoftmaxState>:$state, Takes<QueryRows>:$rows, Reads<StepKeys>:$step, F32:$scale);
}
def Tile_LeavesRangeOp : Tile_Leaf<"leaves_range", "attend/attention_step.cuh"> {
  let summary = "Whether a row's weights are too large for its maximum";
  let arguments = (ins Template:$type, Reads<StepSums>:$sums);
  let results = (outs I1:$leaves);
}
def Tile_AddStepOp : Tile_Leaf<"add_step", "attend/attention_step.cuh"> {
  let summary = "Adds a step's sums to the rows' sums";
  let arguments = (ins Updates<SoftmaxState>:$state, Reads<StepSums>:$sums);
}
} // opDocGroup

#endif
