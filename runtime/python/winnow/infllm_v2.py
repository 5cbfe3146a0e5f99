"""The interface of infllm_v2 (github.com/OpenBMB/infllmv2_cuda_impl, f908e73) on Winnow, for the code that MiniCPM4.1 and
MiniCPM-SALA are published with.

    import winnow.infllm_v2
    winnow.infllm_v2.install()  # from now on `import infllm_v2` gives this module
    model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=True, attn_implementation="flash_attention_2", ...)
    winnow.infllm_v2.patch(model)

Attention over given blocks runs on Winnow's kernels. infllmv2_attn_stage1 and the poolings are plain torch: their scores of
every query and window lie in memory by definition. patch replaces the model's function that calls them by
compressed_attention of this module, which selects on Winnow's kernels at decode and keeps few scores at a time at prefill,
where the keys that Winnow would select from are not among its arguments. There is no gradient.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from . import torch as _torch
from ._winnow import InvalidError, Program, UnsupportedError

__all__ = ["compressed_attention", "infllmv2_attn_stage1", "infllmv2_attn_varlen_func", "infllmv2_attn_with_kvcache",
           "install", "max_pooling_1d", "max_pooling_1d_varlen", "patch"]

_METHOD = "infllm_v2"
# What the published kernels have built in, in tokens.
_BLOCK, _STRIDE, _COARSE_STRIDE = 64, 16, 64
# Programs have a fixed number of ids a token: that of a call is rounded up.
_IDS_STEP = 32
# Scores of stage 1 that are held in fp32 at a time.
_MOST_SCORES = 1 << 26
_NO_BLOCK = 2**31 - 1  # sorts behind all others
# Programs select from rows alone for at most so many query tokens of a sequence; for more, and on the CPU, from keys.
_MOST_DECODED = 16


def install() -> None:
    """Makes `import infllm_v2` give this module, in this process."""
    sys.modules[_METHOD] = sys.modules[__name__]


def patch(model: torch.nn.Module) -> None:
    """Replaces compressed_attention of the remote code that a model was loaded with."""
    homes = {sys.modules[type(part).__module__] for part in model.modules()}
    homes = {home for home in homes if hasattr(home, "compressed_attention")}
    if not homes:
        raise InvalidError(f"winnow.infllm_v2: the code of {type(model).__name__} has no compressed_attention to replace: "
                           "load the model with trust_remote_code=True")
    for home in homes:
        home.compressed_attention = compressed_attention


def _refuse(function: str, asked: dict[str, Any], tensors: tuple[torch.Tensor, ...] = ()) -> None:
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        raise UnsupportedError(f"winnow.infllm_v2: {function} has no gradient: call it under torch.no_grad()")
    if names := [name for name, is_asked in asked.items() if is_asked]:
        raise UnsupportedError(f"winnow.infllm_v2: {function} does not compute {' and '.join(names)}: leave it out")


def _program(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, paged: bool, scale: float | None, **spec: Any) -> Program:
    if scale is not None and not math.isclose(scale, q.shape[-1] ** -0.5):
        spec["scale"] = float(scale)
    return _torch._program_for(_torch._text_for(q, k, v, spec.pop("method", _METHOD), paged, spec), q)


# Selection by plain torch, score by score.


def _segments(*cumulative: torch.Tensor) -> list[tuple[slice, ...]]:
    """The part of each sequence in tensors that are packed by cumulative lengths."""
    ends = [cu.tolist() for cu in cumulative]
    return [*zip(*([slice(*pair) for pair in zip(cu, cu[1:])] for cu in ends))]


def _visible(count: int, stride: int, queries: int, tokens: torch.Tensor) -> torch.Tensor:
    """[tokens, count]: which windows the published kernel shows to query `tokens` of `queries`; C's division."""
    seen = (tokens + 1) // stride - 1 + count - math.trunc((queries - stride + 1) / stride)
    return torch.arange(count, device=tokens.device) < seen.clamp(min=0).unsqueeze(1)


def _scores(q: torch.Tensor, k: torch.Tensor, coarse: torch.Tensor, scale: float, seen: torch.Tensor,
            seen_coarse: torch.Tensor) -> torch.Tensor:
    """[kv_heads, tokens, windows] in fp32: the sum over a group's heads, normalised by the coarse windows."""
    q = q.float().unflatten(1, (k.shape[1], -1)).permute(1, 2, 0, 3) * scale
    logits, normalizers = (q @ rows.float().permute(1, 2, 0).unsqueeze(1) for rows in (k, coarse))
    normalizers = normalizers.masked_fill(~seen_coarse, -torch.inf).logsumexp(-1, keepdim=True)
    scores = (logits - normalizers).exp().sum(1)
    return scores.masked_fill(~seen | ~seen_coarse.any(-1, keepdim=True) | scores.isnan(), 0)


class _ScorePart(NamedTuple):
    """Scores [kv_heads, tokens, windows] of some queries of a sequence."""

    sequence: int
    place: slice  #: of the queries in q
    tokens: torch.Tensor  #: the same, counted from the first query of the sequence
    scores: torch.Tensor


def _score_parts(q: torch.Tensor, k: torch.Tensor, coarse: torch.Tensor, cumulative: tuple[torch.Tensor, ...],
                 scale: float | None, causal: bool) -> Iterator[_ScorePart]:
    """Stage 1 by as many queries as make _MOST_SCORES."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    for sequence, (queries, rows, coarse_rows) in enumerate(_segments(*cumulative)):
        total, counts = queries.stop - queries.start, [part.stop - part.start for part in (rows, coarse_rows)]
        step = max(1, _MOST_SCORES // (q.shape[1] * max(counts[0], 1)))
        for begin in range(0, total, step):
            tokens = torch.arange(begin, min(begin + step, total), device=q.device)
            seen = [_visible(count, stride, total, tokens) if causal else tokens.new_ones(len(tokens), count, dtype=torch.bool)
                    for count, stride in zip(counts, (_STRIDE, _COARSE_STRIDE))]
            place = slice(queries.start + begin, queries.start + begin + len(tokens))
            yield _ScorePart(sequence, place, tokens, _scores(q[place], k[rows], coarse[coarse_rows], scale, *seen).to(q.dtype))


@torch.no_grad()
def infllmv2_attn_stage1(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens_q: torch.Tensor,
                         cu_seqlens_k: torch.Tensor, cu_seqlens_v: torch.Tensor, max_seqlen_q: int, max_seqlen_k: int,
                         dropout_p: float = 0.0, softmax_scale: float | None = None, causal: bool = False,
                         window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
                         alibi_slopes: torch.Tensor | None = None, deterministic: bool = False,
                         return_attn_probs: bool = True, block_table: torch.Tensor | None = None) -> torch.Tensor:
    """Scores of windows of keys, [kv_heads, total_q, max_seqlen_k] in q's dtype.

    q: [total_q, heads, dim]; k: means over 32 keys at stride 16, v: over 128 at stride 64, [windows, kv_heads, dim].
    causal: by the published kernel's mask; else every query sees all windows.
    """
    _refuse("infllmv2_attn_stage1", dict(dropout=dropout_p, window_size=tuple(window_size) != (-1, -1), softcap=softcap,
                                         alibi_slopes=alibi_slopes is not None, block_table=block_table is not None))
    scores = q.new_zeros(k.shape[1], q.shape[0], max_seqlen_k)
    for part in _score_parts(q, k, v, (cu_seqlens_q, cu_seqlens_k, cu_seqlens_v), softmax_scale, causal):
        scores[:, part.place, : part.scores.shape[-1]] = part.scores
    return scores


def _pooled(scores: torch.Tensor, blocks: int, own: torch.Tensor, local_blocks: int, init_blocks: int,
            per_block: int) -> torch.Tensor:
    """[kv_heads, tokens, blocks] of scores [kv_heads, tokens, windows]; own: [tokens], the block of each query."""
    missing = max(0, per_block * blocks - scores.shape[-1])
    windows = torch.nn.functional.pad(scores, (1, missing), value=-torch.inf).unfold(-1, per_block + 1, per_block)
    ids, own = torch.arange(blocks, device=scores.device), own.unsqueeze(1)
    forced = (ids < init_blocks) | (ids <= own) & (own <= ids + local_blocks)
    return windows[..., :blocks, :].amax(-1).masked_fill(forced, torch.inf)


def max_pooling_1d(input: torch.Tensor, cache_len: int, local_blocks: int, init_blocks: int, block_size: int = 64,
                   stride: int = 16) -> torch.Tensor:
    """max_pooling_1d_varlen of one sequence, [kv_heads, queries, windows], behind `cache_len` keys."""
    positions = torch.arange(input.shape[1], device=input.device) + cache_len
    blocks = -(-(input.shape[1] + cache_len) // block_size)
    return _pooled(input, blocks, positions // block_size, local_blocks, init_blocks, block_size // stride)


def max_pooling_1d_varlen(input: torch.Tensor, cu_seqlens_q: torch.Tensor, cu_seqlens_k: torch.Tensor, cache_lens: torch.Tensor,
                          max_seqlen_q: int, max_seqlen_k: int, local_blocks: int, init_blocks: int, block_size: int = 64,
                          stride: int = 16) -> torch.Tensor:
    """Scores of blocks, [kv_heads, total_q, blocks], from those of windows, [kv_heads, total_q, max_seqlen_k].

    inf: the first init_blocks, a query's own block and the local_blocks before it. A block without a window: -inf.
    """
    blocks = -(-(max_seqlen_q + int(cache_lens.max())) // block_size)
    pooled = input.new_zeros(*input.shape[:2], blocks)
    for (queries, rows), cached in zip(_segments(cu_seqlens_q, cu_seqlens_k), cache_lens.tolist()):
        own = (torch.arange(queries.stop - queries.start, device=input.device) + cached) // block_size
        pooled[:, queries] = _pooled(input[:, queries, : rows.stop - rows.start], blocks, own, local_blocks, init_blocks,
                                     block_size // stride)
    return pooled


# Selection and attention on Winnow's kernels.


def _right_aligned(rows: torch.Tensor, cu_rows: torch.Tensor, slots: int, window: int, stride: int) -> torch.Tensor:
    """Packed rows [total, kv_heads, dim] as a program keeps them: [batch, slots, kv_heads, dim], by their last key."""
    kept = rows.new_zeros(len(cu_rows) - 1, slots, *rows.shape[1:])
    index = torch.arange(len(rows), device=rows.device, dtype=cu_rows.dtype)
    sequence = torch.searchsorted(cu_rows, index, right=True) - 1
    place = sequence * slots + index - cu_rows[sequence] + (window - 1) // stride
    kept.flatten(0, 1).index_copy_(0, place, rows)
    return kept


@torch.no_grad()
def compressed_attention(q: torch.Tensor, k: torch.Tensor, k2: torch.Tensor, kernel_size: int, kernel_stride: int,
                         block_size: int, topk: int, cu_seqlens_q: torch.Tensor, cu_seqlens_k: torch.Tensor,
                         cu_seqlens_k2: torch.Tensor, max_seqlen_q: int, max_seqlen_k: int, sm_scale: float | None = None,
                         init_blocks: int = 1, local_blocks: int = 2, cache_lens: torch.Tensor | None = None) -> torch.Tensor:
    """The blocks that each query selects, int32 [kv_heads, total_q, topk], ascending, -1 behind the last.

    The function of this name in MiniCPM's remote code. k, k2: the fine and the coarse means of keys, [windows, kv_heads,
    dim]; cu_seqlens_k, cu_seqlens_k2 and max_seqlen_k count them. cache_lens: [batch], keys before the queries.
    """
    if cache_lens is None or max_seqlen_q > _MOST_DECODED or q.device.type == "cpu":
        return _selected_by_scores(q, k, k2, (cu_seqlens_q, cu_seqlens_k, cu_seqlens_k2), cache_lens, sm_scale, block_size, topk,
                                   local_blocks, init_blocks, block_size // kernel_stride)
    windows = (kernel_size, kernel_stride), (4 * kernel_size, 4 * kernel_stride)
    program = _program(q, k, k, True, sm_scale, block=block_size, topk=topk, params=dict(
        window=kernel_size, stride=kernel_stride, coarse_window=4 * kernel_size, coarse_stride=4 * kernel_stride,
        init=init_blocks, local=local_blocks + 1))
    max_k = kernel_stride * max_seqlen_k + kernel_size  # at least: so many windows have fewer keys
    rows = [_right_aligned(one, cu, -(-max_k // stride), window, stride)
            for one, cu, (window, stride) in zip((k, k2), (cu_seqlens_k, cu_seqlens_k2), windows)]
    cu_k = cu_seqlens_q + torch.nn.functional.pad(cache_lens.cumsum(0), (1, 0))
    ids = _torch._ids(program, q)
    room = _torch._room(program, q, batch=len(cu_seqlens_q) - 1, max_q=max_seqlen_q, max_k=max_k)
    # Selection reads no key at decode: the rows stand for the keys, too.
    program.launch(q.contiguous(), rows[0].flatten(0, 1), rows=rows, ids=ids, cu_q=cu_seqlens_q, cu_k=cu_k.to(torch.int32),
                   max_q=max_seqlen_q, max_k=max_k, phase="select", workspace=room)
    return ids


def _selected_by_scores(q: torch.Tensor, k: torch.Tensor, k2: torch.Tensor, cumulative: tuple[torch.Tensor, ...],
                        cache_lens: torch.Tensor | None, scale: float | None, block: int, topk: int, local_blocks: int,
                        init_blocks: int, per_block: int) -> torch.Tensor:
    """compressed_attention by stage 1 and pooling, some queries at a time."""
    ids = torch.full((k.shape[1], len(q), topk), -1, dtype=torch.int32, device=q.device)
    cached = [0] * len(cumulative[0]) if cache_lens is None else cache_lens.tolist()
    for part in _score_parts(q, k, k2, cumulative, scale, cache_lens is None):
        own = (part.tokens + cached[part.sequence]) // block
        blocks = int(own[-1]) + 1
        pooled = _pooled(part.scores, blocks, own, local_blocks, init_blocks, per_block)
        best = pooled.float().topk(min(topk, blocks), -1).indices.to(torch.int32)
        best = best.masked_fill(best > own.unsqueeze(1), _NO_BLOCK).sort(-1).values
        ids[:, part.place, : best.shape[-1]] = best.masked_fill(best == _NO_BLOCK, -1)
    return ids


def _ids_of(topk_idx: torch.Tensor) -> torch.Tensor:
    """As a program reads them: their number rounded up."""
    return torch.nn.functional.pad(topk_idx, (0, -topk_idx.shape[-1] % _IDS_STEP), value=-1).contiguous()


def _attending(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, paged: bool, scale: float | None,
               ids: torch.Tensor | None) -> tuple[Program, str]:
    """The program that attends to given blocks, or to all keys, and the phase to launch."""
    if ids is None:
        return _program(q, k, v, paged, scale, method="dense"), "all"
    return _program(q, k, v, paged, scale, block=_BLOCK, topk=ids.shape[-1], params=dict(init=0, local=1)), "attend"


def infllmv2_attn_varlen_func(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens_q: torch.Tensor,
                              cu_seqlens_k: torch.Tensor, max_seqlen_q: int, max_seqlen_k: int, dropout_p: float = 0.0,
                              softmax_scale: float | None = None, causal: bool = False,
                              window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
                              alibi_slopes: torch.Tensor | None = None, deterministic: bool = False,
                              return_attn_probs: bool = False, block_table: torch.Tensor | None = None,
                              topk_idx: torch.Tensor | None = None) -> Any:
    """Attention over blocks of 64 keys: [total_q, heads, dim]; with return_attn_probs (out, lse [heads, total_q], None).

    q: [total_q, heads, dim]; k, v: [total_k, kv_heads, dim]. topk_idx: int32 [kv_heads, total_q, any], -1 anywhere; None
    attends to all keys. causal=False is served where a sequence has one query, which sees all keys.
    """
    _refuse("infllmv2_attn_varlen_func", {
        "dropout": dropout_p, "window_size": tuple(window_size) != (-1, -1), "softcap": softcap,
        "alibi_slopes": alibi_slopes is not None, "block_table": block_table is not None,
        "attention that is not causal": not causal and max_seqlen_q > 1}, (q, k, v))
    ids = None if topk_idx is None else _ids_of(topk_idx)
    program, phase = _attending(q, k, v, False, softmax_scale, ids)
    out = q.new_empty(*q.shape[:2], v.shape[-1])
    lse = torch.empty(q.shape[1], q.shape[0], dtype=torch.float32, device=q.device) if return_attn_probs else None
    room = _torch._room(program, q, batch=len(cu_seqlens_q) - 1, total_k=len(k), max_q=max_seqlen_q, max_k=max_seqlen_k)
    program.launch(q.contiguous(), k.contiguous(), v.contiguous(), out, lse=lse, ids=ids, cu_q=cu_seqlens_q, cu_k=cu_seqlens_k,
                   max_q=max_seqlen_q, max_k=max_seqlen_k, phase=phase, workspace=room)
    return (out, lse, None) if return_attn_probs else out


def infllmv2_attn_with_kvcache(q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, k: torch.Tensor | None = None,
                               v: torch.Tensor | None = None, rotary_cos: torch.Tensor | None = None,
                               rotary_sin: torch.Tensor | None = None, cache_seqlens: int | torch.Tensor | None = None,
                               cache_batch_idx: torch.Tensor | None = None, cache_leftpad: torch.Tensor | None = None,
                               block_table: torch.Tensor | None = None, softmax_scale: float | None = None,
                               causal: bool = False, window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
                               rotary_interleaved: bool = True, alibi_slopes: torch.Tensor | None = None, num_splits: int = 0,
                               return_softmax_lse: bool = False, topk_idx: torch.Tensor | None = None) -> Any:
    """Attention over a cache: [batch, queries, heads, dim], or (out, lse [batch, heads, queries]).

    q: [batch, queries, heads, dim]. k_cache, v_cache: [rows, capacity, kv_heads, dim], or pages with a block_table. k, v:
    [batch, new, kv_heads, dim], written behind cache_seqlens first. topk_idx: int32 [batch, kv_heads, queries, any] or
    [kv_heads, batch * queries, any].
    """
    batch, queries = q.shape[:2]
    _refuse("infllmv2_attn_with_kvcache", {
        "rotary embeddings": rotary_cos is not None or rotary_sin is not None, "window_size": tuple(window_size) != (-1, -1),
        "softcap": softcap, "alibi_slopes": alibi_slopes is not None,
        "cache_leftpad with block_table": cache_leftpad is not None and block_table is not None,
        "attention that is not causal": not causal and queries > 1}, (q, k_cache, v_cache))
    if block_table is None:
        rows = torch.arange(batch, device=q.device) if cache_batch_idx is None else cache_batch_idx
        block_table = rows.to(torch.int32).unsqueeze(1)
    counts = torch.as_tensor(k_cache.shape[1] if cache_seqlens is None else cache_seqlens, device=q.device).expand(batch)
    if k is not None:
        _append(k_cache, v_cache, k, v, counts, block_table)
        counts = counts + k.shape[1]
    if cache_leftpad is not None:
        counts = counts - cache_leftpad
    if topk_idx is not None and topk_idx.dim() == 4:
        topk_idx = topk_idx.transpose(0, 1).flatten(1, 2)
    ids = None if topk_idx is None else _ids_of(topk_idx)
    flat, cu_q = q.flatten(0, 1), torch.arange(0, (batch + 1) * queries, queries, dtype=torch.int32, device=q.device)
    program, phase = _attending(flat, k_cache, v_cache, True, softmax_scale, ids)
    max_k = block_table.shape[1] * k_cache.shape[1]
    out = flat.new_empty(*flat.shape[:2], v_cache.shape[-1])
    lse = torch.empty(flat.shape[1], len(flat), dtype=torch.float32, device=q.device) if return_softmax_lse else None
    program.launch(flat, k_cache, v_cache, out, lse=lse, ids=ids, seq_k=counts.to(torch.int32).contiguous(),
                   k_begin=cache_leftpad, cu_q=cu_q, page_table=block_table, max_q=queries, max_k=max_k, phase=phase,
                   workspace=_torch._room(program, flat, batch=batch, max_q=queries, max_k=max_k))
    out = out.unflatten(0, (batch, queries))
    return (out, lse.unflatten(1, (batch, queries)).transpose(0, 1)) if return_softmax_lse else out


def _append(k_cache: torch.Tensor, v_cache: torch.Tensor, k: torch.Tensor, v: torch.Tensor, counts: torch.Tensor,
            table: torch.Tensor) -> None:
    """Writes new keys and values behind the first `counts` of each sequence."""
    places = counts.unsqueeze(1) + torch.arange(k.shape[1], device=k.device)
    pages = table.gather(1, (places // k_cache.shape[1]).to(torch.int64))
    for cache, new in ((k_cache, k), (v_cache, v)):
        cache[pages, places % k_cache.shape[1]] = new
