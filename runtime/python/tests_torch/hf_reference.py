"""Selection and attention in plain PyTorch and fp32, and an attention function of transformers made of them
("winnow_reference"): what winnow.hf is compared with, and by "winnow_checked" layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

import winnow.hf as hf

_INFLLM_V2 = dict(window=32, stride=16, coarse_window=128, coarse_stride=64, lse="coarse", init=1, local=33, compat="none",
                  dense_len=-1)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, *, method: str, block: int = 64,
              topk: int = 96, params: Mapping[str, Any] | None = None, **_: Any) -> torch.Tensor:
    """q: [queries, heads, dim], the last tokens of the sequence; k, v: [keys, kv_heads, dim]. In fp32."""
    p = {**_INFLLM_V2, **(params or {})}
    if method not in ("dense", "infllm_v2") or p["lse"] != "coarse" or p["compat"] != "none":
        raise ValueError(f"the reference has no {method} with {params}")
    queries, heads, _ = q.shape
    positions = torch.arange(len(k) - queries, len(k), device=q.device)
    # By KV head and query head of its group: [kv_heads, group, queries, dim] and [kv_heads, keys, dim].
    q = q.float().unflatten(1, (k.shape[1], -1)).permute(1, 2, 0, 3)
    visible = torch.arange(len(k), device=q.device) <= positions.unsqueeze(1)
    if method == "infllm_v2" and len(k) >= p["dense_len"]:
        chosen = _selected(q * scale, k, positions, block, topk, p)
        visible = visible & chosen.repeat_interleave(block, -1)[..., : len(k)]
    logits = _products(q * scale, k.float().transpose(0, 1))
    logits = logits.masked_fill(~(visible.unsqueeze(1) if visible.dim() == 3 else visible), -torch.inf)
    out = logits.softmax(-1) @ v.float().transpose(0, 1).unsqueeze(1)
    return out.permute(2, 0, 1, 3).reshape(queries, heads, v.shape[-1])


def _products(q: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """[kv_heads, group, queries, keys]."""
    return q @ keys.transpose(1, 2).unsqueeze(1)


def _means(k: torch.Tensor, window: int, stride: int) -> torch.Tensor:
    """Of whole windows, rounded to the type of the keys as a cache holds them: [kv_heads, rows, dim]."""
    if len(k) < window:
        return k.new_zeros(k.shape[1], 0, k.shape[2], dtype=torch.float32)
    return k.float().unfold(0, window, stride).mean(-1).to(k.dtype).float().transpose(0, 1)


def _ended(rows: int, window: int, stride: int, positions: torch.Tensor) -> torch.Tensor:
    """[queries, rows]: which windows end at the query or before."""
    return torch.arange(rows, device=positions.device) * stride + window <= positions.unsqueeze(1) + 1


def _selected(q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, block: int, topk: int,
              p: Mapping[str, Any]) -> torch.Tensor:
    """[kv_heads, queries, blocks]: which blocks each query attends to."""
    scores = _block_scores(q, k, positions, block, p)
    best = scores.sort(dim=-1, descending=True, stable=True).indices[..., :topk]  # of equal ones the first
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True) & (scores > -torch.inf)


def _block_scores(q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, block: int,
                  p: Mapping[str, Any]) -> torch.Tensor:
    """[kv_heads, queries, blocks]: +inf for forced blocks, -inf for those of a query's future."""
    blocks = -(-len(k) // block)
    ids, own = torch.arange(blocks, device=q.device), (positions // block).unsqueeze(1)
    forced = (ids < p["init"]) | (ids > own - p["local"])
    scores = _pooled(_scores(q, k, positions, p), block, blocks, p)
    return scores.masked_fill(forced, torch.inf).masked_fill(ids > own, -torch.inf)


def margins(q: torch.Tensor, k: torch.Tensor, scale: float, *, method: str, block: int = 64, topk: int = 96,
            params: Mapping[str, Any] | None = None, **_: Any) -> torch.Tensor:
    """[queries]: by what part of its score the last selected block of each query beats the next one, in the KV head where
    that is least; 1 where nothing is left out."""
    p, queries = {**_INFLLM_V2, **(params or {})}, len(q)
    blocks = -(-len(k) // block)
    if method == "dense" or len(k) < p["dense_len"] or blocks <= topk:
        return torch.ones(queries, device=q.device)
    q = q.float().unflatten(1, (k.shape[1], -1)).permute(1, 2, 0, 3)
    positions = torch.arange(len(k) - queries, len(k), device=q.device)
    ranked = _block_scores(q * scale, k, positions, block, p).sort(dim=-1, descending=True).values
    last, left = ranked[..., topk - 1], ranked[..., topk]
    return torch.where(left > -torch.inf, 1 - left / last, 1).amin(0)


def _scores(q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, p: Mapping[str, Any]) -> torch.Tensor:
    """[kv_heads, queries, rows]: the sum over a group's heads of softmax by the coarse rows' normaliser."""
    rows, coarse = (_means(k, p[window], p[stride]) for window, stride in
                    (("window", "stride"), ("coarse_window", "coarse_stride")))
    seen = _ended(coarse.shape[1], p["coarse_window"], p["coarse_stride"], positions)
    lse = _products(q, coarse).masked_fill(~seen, -torch.inf).logsumexp(-1, keepdim=True)
    scores = (_products(q, rows) - lse).exp().sum(1)
    has_any = seen.any(-1, keepdim=True) & _ended(rows.shape[1], p["window"], p["stride"], positions)
    return scores.masked_fill(~has_any, 0)


def _pooled(scores: torch.Tensor, block: int, blocks: int, p: Mapping[str, Any]) -> torch.Tensor:
    """[kv_heads, queries, blocks]: the largest score of the windows that overlap a block."""
    begins = torch.arange(scores.shape[-1], device=scores.device) * p["stride"]
    pooled = scores.new_full((*scores.shape[:-1], blocks), -torch.inf)
    for b in range(blocks):
        overlap = (begins < (b + 1) * block) & (begins + p["window"] > b * block)
        if overlap.any():
            pooled[..., b] = scores[..., overlap].amax(-1)
    return pooled


def _segments(mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor,
              kwargs: Mapping[str, Any]) -> list[tuple[slice, slice]]:
    """The query tokens of each sequence and its keys, as parts of flat tensors."""
    if packed := hf._packed(mask, query, key, kwargs):
        bounds = [cu.tolist() for cu in (packed.cu_q, packed.cu_k)]
        return [*zip(*([slice(*ends) for ends in zip(cu, cu[1:])] for cu in bounds))]
    spans, tokens, capacity = hf._spans_of(mask), query.shape[2], key.shape[2]
    counts = spans.count.tolist()
    begins = [0] * len(counts) if spans.begin is None else spans.begin.tolist()
    return [(slice((b + 1) * tokens - min(tokens, count), (b + 1) * tokens),
             slice(b * capacity + begin, b * capacity + begin + count))
            for b, (begin, count) in enumerate(zip(begins, counts))]


def _reference(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    hf._refuse_what_is_ignored(dropout, kwargs)
    query, key, value = hf._in_autocast(query, key, value)
    spec, scale = hf._spec_of(module.config), query.shape[-1] ** -0.5 if scaling is None else scaling
    q, k, v = hf._flat(query), hf._flat(key), hf._flat(value)
    out = q.new_zeros((*q.shape[:2], v.shape[-1]))
    with torch.autocast(q.device.type, enabled=False):
        for queries, keys in _segments(attention_mask, query, key, kwargs):
            out[queries] = attention(q[queries], k[keys], v[keys], scale, **spec).to(out.dtype)
    return out.unflatten(0, (query.shape[0], query.shape[2])), None


def _checked(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    """Winnow's answer, which is the reference's for each token, but where two blocks are so near to each other that
    rounding decides which one is selected. A GPU keeps scores in the type of the keys, 5e-4 apart."""
    near, enough = 2e-3, 5e-3
    inputs = (module, query, key, value, attention_mask, scaling, dropout)
    (got, _), (wanted, _) = hf._attention(*inputs, **kwargs), _reference(*inputs, **kwargs)
    spec, scale = hf._spec_of(module.config), query.shape[-1] ** -0.5 if scaling is None else scaling
    q, k = hf._flat(query), hf._flat(key)
    margin = torch.ones(len(q), device=q.device)
    for queries, keys in _segments(attention_mask, query, key, kwargs):
        margin[queries] = margins(q[queries], k[keys], scale, **spec)
    off, size = ((x.float().flatten(2).norm(dim=-1).flatten() for x in (got - wanted, wanted)))
    wrong = (off > enough * size) & (margin > near)
    assert not wrong.any(), f"layer {module.layer_idx}: {int(wrong.sum())} of {len(wrong)} tokens, {off[wrong][:3]}"
    assert (margin > near).float().mean() > 0.5, "most blocks win by too little for this to be a check"
    return got, None


def _reference_over_pages(module, query, key, value, attention_mask, scaling=None, dropout=0.0, *, cache, cu_seq_lens_q,
                          cu_seq_lens_k, read_index, write_index, **kwargs):
    keys, values = (states.transpose(0, 1).unsqueeze(0) for states in
                    cache.update(key, value, module.layer_idx, read_index, write_index))
    return _reference(module, query, keys, values, None, scaling, dropout, cu_seq_lens_q=cu_seq_lens_q,
                      cu_seq_lens_k=cu_seq_lens_k)


def register() -> None:
    """Makes attn_implementation="winnow_reference" and "winnow_checked" known, for the spec that winnow.hf.register was
    given."""
    AttentionInterface.register("winnow_reference", _reference)
    AttentionInterface.register("winnow_checked", _checked)
    AttentionInterface.register("paged|winnow_reference", _reference_over_pages)
    for name in ("winnow_reference", "winnow_checked"):
        AttentionMaskInterface.register(name, hf._spans)
