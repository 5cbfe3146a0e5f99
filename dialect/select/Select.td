// The select dialect: what a block-sparse attention method computes, one op per step. It serves the
// first step of the way of a kernel; a built-in method is a text of about 15 lines in
// dialect/methods/.
//
// Values have no printed types, since each op has only one way to be typed. A setting of an op is a
// number, a keyword, or a reference `@name` to a parameter of the method or to one of the spec's
// names (block, topk, group, head_dim, value_dim); references become numbers when the method is specialised.
// Notation below: t a query at absolute position pos, h a query head of group g, G heads per group,
// B the block size, j a summary row, b a block.
#ifndef WINNOW_DIALECT_SELECT
#define WINNOW_DIALECT_SELECT

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/OpAsmInterface.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/RegionKindInterface.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Select_Dialect : Dialect {
  let name = "select";
  let cppNamespace = "::winnow::select";
  let summary = "Block-selection methods for sparse attention";
  let useDefaultTypePrinterParser = 1;
}

//===-- Types -------------------------------------------------------------------------------===//

class Select_TypeDef<string name, string word, string text> : TypeDef<Select_Dialect, name> {
  let mnemonic = word;
  let summary = text;
}
class Select_Type<TypeDef type, string name>
    : DialectType<Select_Dialect,
                  CPred<"::mlir::isa<::winnow::select::" # name # "Type>($_self)">, type.summary>,
    BuildableType<"$_builder.getType<::winnow::select::" # name # "Type>()">;

def Select_QueryType : Select_TypeDef<"Query", "query", "queries [tokens, heads, head_dim]">;
def Select_KeyType : Select_TypeDef<"Key", "key", "keys [tokens, kv_heads, head_dim]">;
def Select_ValueType : Select_TypeDef<"Value", "value", "values [tokens, kv_heads, value_dim]">;
def Select_SummaryType
    : Select_TypeDef<"Summary", "summary", "summaries of keys [kv_heads, rows, head_dim]">;
def Select_LseType : Select_TypeDef<"Lse", "lse", "log-sum-exp per query head and token">;
def Select_ScoresType
    : Select_TypeDef<"Scores", "scores", "scores of summary rows or of blocks, per head or group">;
def Select_IdsType
    : Select_TypeDef<"Ids", "ids", "selected block ids, ascending, -1 behind the last">;
def Select_OutputType
    : Select_TypeDef<"Output", "output", "attention output, like the queries, and its log-sum-exp">;
def Select_GradientsType
    : Select_TypeDef<"Gradients", "gradients", "gradients of queries, keys and values, like these">;

def Query : Select_Type<Select_QueryType, "Query">;
def Key : Select_Type<Select_KeyType, "Key">;
def Value_ : Select_Type<Select_ValueType, "Value">;
def Summary : Select_Type<Select_SummaryType, "Summary">;
def Lse : Select_Type<Select_LseType, "Lse">;
def Scores : Select_Type<Select_ScoresType, "Scores">;
def Ids : Select_Type<Select_IdsType, "Ids">;
def Output : Select_Type<Select_OutputType, "Output">;
def Gradients : Select_Type<Select_GradientsType, "Gradients">;

// A number, a keyword, or a reference to a parameter.
def Setting : AnyAttrOf<[I64Attr, StrAttr, FlatSymbolRefAttr],
                        "a number, a keyword or a reference to a parameter">;

class Select_Op<string mnemonic, list<Trait> traits = []> : Op<Select_Dialect, mnemonic, traits>;

// A step: no side effects, one result, printed under the name `hint`.
class Select_Step<string mnemonic, string hint, list<Trait> traits = []>
    : Select_Op<mnemonic, traits # [Pure, OpAsmOpInterface]> {
  code resultName = [{
    void getAsmResultNames(::mlir::OpAsmSetValueNameFn setName) {
      setName((*this)->getResult(0), "}] # hint # [{");
    }
  }];
  let extraClassDeclaration = resultName;
}

// A step whose region `rewrite` rewrites each value; `row` names the region's third argument.
class Select_RewritingStep<string mnemonic, string hint, string row>
    : Select_Step<mnemonic, hint, [RecursiveMemoryEffects]> {
  let extraClassDeclaration = resultName # [{
    void getAsmBlockArgumentNames(::mlir::Region &region, ::mlir::OpAsmSetValueNameFn setName) {
      const char *const names[] = {"value", "position", "}] # row # [{"};
      for (auto [argument, name] : ::llvm::zip(region.getArguments(), names))
        setName(argument, name);
    }
  }];
}

//===-- Method and structure ----------------------------------------------------------------===//

def Select_MethodOp
    : Select_Op<"method", [IsolatedFromAbove, Symbol, SingleBlock, OpAsmOpInterface]> {
  let summary = "A method: a program from queries, keys and values to attention output";
  let description = [{
    `doc` is the line that `winnow methods` shows. `params` declares the method's parameters with
    their defaults (integers, or keywords in quotes); `--set name=value` changes them. Each is
    referred to by a step, and none has one of the spec's names. `spec` is attached by
    specialisation. Each step's result is taken by another step. The inputs are queries [tokens, heads, head_dim], keys
    [tokens, kv_heads, head_dim] and values [tokens, kv_heads, value_dim] of a ragged batch.

        select.method @block_mean doc "best blocks by mean" params(local = 1) (%q, %k, %v) {
          %mean = select.summarize mean %k window @block stride @block
          %s    = select.score %q, %mean visible none
          %b    = select.pool max %s
          %f    = select.force %b init 0 local @local
          %ids  = select.top_k %f
          %o    = select.attend %q, %k, %v, %ids
          select.return %o
        }
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrAttr:$doc, DictionaryAttr:$params,
                       OptionalAttr<DictionaryAttr>:$spec);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let hasRegionVerifier = 1;
  let extraClassDeclaration = [{
    void getAsmBlockArgumentNames(::mlir::Region &region, ::mlir::OpAsmSetValueNameFn setName) {
      const char *const names[] = {"query", "keys", "values"};
      for (auto [argument, name] : ::llvm::zip(region.getArguments(), names))
        setName(argument, name);
    }
  }];
}

def Select_ReturnOp : Select_Op<"return", [Terminator, Pure, ParentOneOf<["MethodOp"]>]> {
  let summary = "The method's result; with gradients where a launch may ask for them";
  let arguments = (ins Output:$output, Optional<Gradients>:$gradients);
  let hasCustomAssemblyFormat = 1;
}

def Select_KernelOp : Select_Op<"kernel", [SingleBlock, RecursiveMemoryEffects]> {
  let summary = "Steps that one generated kernel computes (made by the fuse-kernels pass)";
  let description = [{
    `name` is the kernel's step in the launch recipe: summarize, score, top_k, attend or backward. The results
    are what leaves the kernel through memory; everything else inside stays in registers.
  }];
  let arguments = (ins StrAttr:$name);
  let results = (outs Variadic<AnyType>:$results);
  let regions = (region SizedRegion<1>:$body);
  let hasVerifier = 1;
  let assemblyFormat = "$name (`->` type($results)^)? attr-dict-with-keyword $body";
}

def Select_YieldOp : Select_Op<"yield", [Terminator, Pure]> {
  let summary = "The new value of an elementwise region, or the values that leave a kernel";
  let arguments = (ins Variadic<AnyType>:$values);
  let assemblyFormat = "($values^ `:` type($values))? attr-dict";
}

//===-- Steps -------------------------------------------------------------------------------===//

def Select_SummarizeOp : Select_Step<"summarize", "summary"> {
  let summary = "Summaries of windows of keys";
  let description = [{
    Row j = the mean over keys [stride * j, stride * j + window), per KV head and channel, in fp32,
    rounded to the element type. Only whole windows count: a sequence of T keys has T < window ? 0 :
    (T - window) / stride + 1 rows. The window is a multiple of the stride. Keys are those of the
    cache, so after any rotary embedding. `mean` is the only kind; block means are MoBA's (arXiv
    2502.13189), overlapping windows NSA's and InfLLM-V2's (2502.11089, 2509.24663).
  }];
  let arguments = (ins StrAttr:$kind, Key:$keys, Setting:$window, Setting:$stride);
  let results = (outs Summary:$summary);
  let assemblyFormat = [{custom<Word>($kind) $keys `window` custom<Setting>($window)
                         `stride` custom<Setting>($stride) attr-dict}];
  let hasVerifier = 1;
}

def Select_LogSumExpOp : Select_Step<"logsumexp", "lse"> {
  let summary = "The normaliser of a softmax over summaries";
  let description = [{
    LSE_h = log of the sum over visible rows c of exp(q_h . row_c * scale). mode: `coarse` sums over
    the rows of `coarse` (InfLLM-V2, arXiv 2509.24663: no correction for their smaller number),
    `exact` over the scored rows, `none` makes the scores raw. visible: see select.score.
  }];
  let arguments = (ins Query:$query, Summary:$rows, Optional<Summary>:$coarse,
                       Setting:$mode, Setting:$visible);
  let results = (outs Lse:$lse);
  let assemblyFormat = [{$query `,` $rows (`coarse` $coarse^)? `mode` custom<Setting>($mode)
                         `visible` custom<Setting>($visible) attr-dict}];
  let hasVerifier = 1;
}

def Select_ScoreOp : Select_RewritingStep<"score", "scores", "row"> {
  let summary = "Scores of queries against summary rows, per query head";
  let description = [{
    With `softmax`: score = exp(q_h . row_j * scale - LSE_h), hidden rows score 0. Without: score =
    q_h . row_j * scale, hidden rows -inf, and a region may rewrite each score: (score f32, query
    position i32, row i32) -> f32. visible `none`: row j is visible when its window ends at or
    before the query, stride * j + window <= pos + 1. visible `infllmv2`: the published kernel's
    rule, for comparing with it bit by bit; for windows of two strides. It counts from the query's
    index i in its segment of L queries, n rows and stride S, dividing toward zero: j < min(n,
    max(0, (i + 1) / S - 1 + n - (L - S + 1) / S)).
  }];
  let arguments = (ins Query:$query, Summary:$rows, Optional<Lse>:$lse, Setting:$visible);
  let regions = (region AnyRegion:$rewrite);
  let results = (outs Scores:$scores);
  let assemblyFormat = [{$query `,` $rows (`softmax` $lse^)? `visible` custom<Setting>($visible)
                         (`rewrite` $rewrite^)? attr-dict}];
  let hasVerifier = 1;
}

def Select_CombineHeadsOp : Select_Step<"combine_heads", "combined"> {
  let summary = "One score per group of heads that share a KV head: sum or max over the group";
  let description = [{
    combined[g, t, j] = sum (or max) over the G heads h of group g of scores[h, t, j]. A method
    without this step selects per query head, as MoBA does; with it, once per KV head, as NSA and
    InfLLM-V2 do.
  }];
  let arguments = (ins StrAttr:$kind, Scores:$scores);
  let results = (outs Scores:$combined);
  let assemblyFormat = "custom<Word>($kind) $scores attr-dict";
  let hasVerifier = 1;
}

def Select_PoolOp : Select_Step<"pool", "pooled"> {
  let summary = "Scores of rows to scores of blocks, over the overlapping windows";
  let description = [{
    pooled[b] = `max` (InfLLM-V2), `sum` or `overlap` (NSA, equation 9) of scores[j] over the rows j
    whose windows overlap block b: B/stride * b - (window/stride - 1) <= j < B/stride * (b + 1), cut
    to the existing ones; a block without any row scores -inf. `overlap` is a sum in which a row
    weighs as many strides as its window shares with the block: 1, 2, 2, 2, 1 for windows of 32 at
    stride 16 and blocks of 64. For windows that are the blocks themselves and follow each other
    each kind is the identity.
  }];
  let arguments = (ins StrAttr:$kind, Scores:$scores);
  let results = (outs Scores:$pooled);
  let assemblyFormat = "custom<Word>($kind) $scores attr-dict";
  let hasVerifier = 1;
}

def Select_ForceOp : Select_Step<"force", "forced"> {
  let summary = "Blocks that are selected whatever their score, inside the budget";
  let description = [{
    b < init, and own - local < b <= own with own = pos / B: `local` counts the query's own block.
    Forced blocks count against topk, so init + local may not exceed it. With
    local = 0 even a token's own block has to earn its place.
  }];
  let arguments = (ins Scores:$scores, Setting:$init, Setting:$local);
  let results = (outs Scores:$forced);
  let assemblyFormat = [{$scores `init` custom<Setting>($init) `local` custom<Setting>($local)
                         attr-dict}];
  let hasVerifier = 1;
}

def Select_TopKOp : Select_Step<"top_k", "ids"> {
  let summary = "The topk best blocks of each token, none behind its own; ties to the smaller id";
  let description = [{
    ids[g, t] = the min(topk, pos / B + 1) blocks b <= pos / B with the highest scores, forced ones
    first, a smaller id before a larger one of equal score; written in ascending order, -1 behind
    the last. The result depends on nothing but the scores: not on tile sizes, neighbours or the
    device. Softmax scores order as real numbers: where they leave the range of fp32, by their
    logarithms (a sum of scores is a log-sum-exp). Rounding may swap scores that are nearly equal;
    overflow and underflow may not.
  }];
  let arguments = (ins Scores:$scores);
  let results = (outs Ids:$ids);
  let assemblyFormat = "$scores attr-dict";
  let hasVerifier = 1;
}

def Select_AttendOp : Select_RewritingStep<"attend", "output", "key"> {
  let summary = "Softmax attention over the keys of the selected blocks; over all keys without ids";
  let description = [{
    out[t, h] = softmax over keys i <= pos in the selected blocks of q_h . k_i * scale, times v_i;
    fp32 accumulation. Duplicate ids count once, ids outside the sequence and -1 are ignored; a row
    with nothing selected gives 0 and an lse of -inf. A sequence shorter than `dense_len` keys
    attends to every key (-1: none does; `auto`: where that is as fast as a selection, a length that
    each launch decides from its batch, at prefill and at decode). A region may rewrite each logit (softcap, bias): (logit
    f32 after scaling, query position i32, key position i32) -> f32.
  }];
  let arguments = (ins Query:$query, Key:$keys, Value_:$values, Optional<Ids>:$ids,
                       OptionalAttr<Setting>:$dense_len);
  let regions = (region AnyRegion:$rewrite);
  let results = (outs Output:$output);
  let assemblyFormat = [{$query `,` $keys `,` $values (`,` $ids^)?
                         (`dense_len` custom<Setting>($dense_len)^)?
                         (`rewrite` $rewrite^)? attr-dict}];
  let hasVerifier = 1;
}

def Select_AttendBackwardOp : Select_RewritingStep<"attend_backward", "gradients", "key"> {
  let summary = "Gradients of select.attend (made by the derive-backward pass)";
  let description = [{
    With P the softmax weights of the logits L = rewrite(S), S = scale q_h . k_i, made anew from the
    log-sum-exp that came with `output`, dO the gradient of the output, which the launch gives, and
    delta = sum of dO * out per row: dS = P (dO . v_i - delta) derivative(S); dq = scale sum of dS
    k_i, dk = scale sum of dS q, dv = sum of P dO, over the keys and queries that attended to each
    other (arXiv 2205.14135, algorithm 4). fp32 accumulation. The selection carries no gradient; a
    key that nobody attended to has gradients of exactly 0. Where `rewrite` is, `derivative` gives
    its derivative by the logit at the same arguments.
  }];
  let arguments = (ins Query:$query, Key:$keys, Value_:$values, Optional<Ids>:$ids,
                       Output:$output, OptionalAttr<Setting>:$dense_len);
  let regions = (region AnyRegion:$rewrite, AnyRegion:$derivative);
  let results = (outs Gradients:$gradients);
  let assemblyFormat = [{$query `,` $keys `,` $values (`,` $ids^)? `of` $output
                         (`dense_len` custom<Setting>($dense_len)^)?
                         (`rewrite` $rewrite^ `derivative` $derivative)? attr-dict}];
  let hasVerifier = 1;
}

#endif
