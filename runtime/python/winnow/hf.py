"""Attention for Hugging Face transformers.

    import winnow.hf
    winnow.hf.register("infllm_v2", topk=96, params={"dense_len": 8192})
    model = AutoModelForCausalLM.from_pretrained(name, attn_implementation="winnow", dtype=torch.bfloat16)
    model.generate(**inputs, past_key_values=winnow.hf.Cache(model.config, max_cache_len=131072))

Any cache of transformers works; winnow.hf.Cache keeps the summaries of keys too, which are made anew at each step
otherwise. "paged|winnow" is the same for model.generate_batch. Models train with "winnow", too, without a cache of
earlier tokens.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig
from transformers import Cache as _Cache
from transformers.cache_utils import StaticLayer
from transformers.masking_utils import causal_mask_function
from transformers.modeling_flash_attention_utils import prepare_fa_kwargs_from_position_ids
from transformers.utils import is_tracing

from ._winnow import InvalidError, UnsupportedError
from .torch import _in_autocast, append_rows, attention_with_kvcache, rows_layout, sparse_attention, spec_text

__all__ = ["Cache", "register"]

# Where a tensor of keys holds the _Rows of its cache: transformers hands attention the tensors alone.
_ROWS = "_winnow_rows"
# Cache.max_cache_len is rounded up to a multiple, so that rows of any common stride fit.
_CAPACITY_STEP = 256
# Pages of a multiple of so many tokens are read in bulk (docs/embedding-c.md).
_BULK_TOKENS = 8
_GIVEN: dict[str, Any] = {}


def register(method: str, **spec: Any) -> None:
    """Makes attn_implementation="winnow" known, in this process and for all models, and "paged|winnow" for generate_batch.

    spec: block, topk, params, ... of Spec. Without any, each model's config.sparse_config says them, in the names of
    MiniCPM4 (kernel_size, kernel_stride, init_blocks, block_size, window_size, topk, dense_len).
    """
    _GIVEN.clear()
    _GIVEN.update(spec, method=method)
    AttentionInterface.register("winnow", _attention)
    AttentionInterface.register("paged|winnow", _attention_over_pages)
    AttentionMaskInterface.register("winnow", _spans)


# What to compute.


def _spec_of(config: PreTrainedConfig) -> dict[str, Any]:
    """What register was given, or what the model's config says."""
    if len(_GIVEN) > 1:
        return _GIVEN
    sparse = getattr(config, "sparse_config", None)
    if sparse is None:
        raise InvalidError("winnow.hf: neither register nor the model's config.sparse_config says what to select: call "
                           "register(method, topk=...)")
    return {**_GIVEN, **_spec_of_minicpm(sparse if isinstance(sparse, Mapping) else vars(sparse))}


def _spec_of_minicpm(sparse: Mapping[str, Any]) -> dict[str, Any]:
    """Coarse windows are four times as large, and the blocks of the local window come on top of topk."""
    if sparse.get("use_nope"):
        raise UnsupportedError("winnow.hf: sparse_config.use_nope selects by keys before their rotation, which no cache "
                               "holds: set it to false")
    size, stride, block = (sparse.get(name, default) for name, default in
                           (("kernel_size", 32), ("kernel_stride", 16), ("block_size", 64)))
    local = sparse.get("window_size", 2048) // block
    return dict(block=block, topk=sparse.get("topk", 64) + local, params=dict(
        window=size, stride=stride, coarse_window=4 * size, coarse_stride=4 * stride, init=sparse.get("init_blocks", 1),
        local=local + 1, dense_len=sparse.get("dense_len", -1)))


# Which keys each sequence has.


class _Spans(NamedTuple):
    """Sequence b has the keys [begin[b], begin[b] + count[b]) of its row of the cache; begin is None where all are 0."""

    begin: torch.Tensor | None
    count: torch.Tensor


def _spans(batch_size: int, q_length: int, kv_length: int, q_offset: int | torch.Tensor = 0, kv_offset: int = 0,
           mask_function=causal_mask_function, attention_mask: torch.Tensor | None = None,
           device: torch.device | None = None, **_) -> torch.Tensor | None:
    """The "mask": spans as [1 or 2, batch, 1, 1] int32, counts before begins; None where attention is not just causal.

    It has four dimensions because transformers hands such masks on as they are, also where it asks twice.
    """
    if mask_function is not causal_mask_function or kv_offset:
        return None
    device = attention_mask.device if attention_mask is not None else device
    seen = (torch.zeros(batch_size, dtype=torch.int32, device=device) + q_offset + q_length).to(torch.int32)
    if attention_mask is None or not is_tracing(attention_mask) and attention_mask.all():
        return seen.view(1, -1, 1, 1)
    begin = (attention_mask.cumsum(1) == 0).sum(1, dtype=torch.int32)  # all tokens of a row that is nothing but padding
    count = seen - begin
    if not is_tracing(attention_mask) and (attention_mask.sum(1) != count).any():
        raise UnsupportedError("winnow.hf: attention_mask hides tokens that are no left padding: pad on the left")
    return torch.stack((count, begin)).view(2, -1, 1, 1)


def _spans_of(mask: torch.Tensor | None) -> _Spans:
    if mask is None or mask.dtype != torch.int32 or mask.dim() != 4:
        raise UnsupportedError("winnow.hf: the mask is not causal attention with left padding, which is all that is computed: "
                               "give a mask of [batch, tokens], and position_ids or cu_seq_lens_q where sequences are packed")
    return _Spans(mask[1, :, 0, 0] if len(mask) == 2 else None, mask[0, :, 0, 0])


class _Packed(NamedTuple):
    cu_q: torch.Tensor
    cu_k: torch.Tensor
    max_q: int
    max_k: int


def _packed(mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor, kwargs: Mapping[str, Any]) -> _Packed | None:
    """The lengths of a packed batch: given, or where position_ids begin anew inside a row."""
    if (cu_q := kwargs.get("cu_seq_lens_q")) is not None:
        cu_k = kwargs.get("cu_seq_lens_k", cu_q)
        longest = (kwargs.get("max_length_q") or query.shape[2], kwargs.get("max_length_k") or key.shape[2])
        return _Packed(cu_q, cu_k, *map(int, longest))
    positions = kwargs.get("position_ids")
    if mask is not None or positions is None or query.shape[2] != key.shape[2]:
        return None
    (cu_q, cu_k), longest = prepare_fa_kwargs_from_position_ids(positions.expand(query.shape[0], -1))
    return _Packed(cu_q, cu_k, *map(int, longest)) if len(cu_q) > query.shape[0] + 1 else None


# The attention functions: query [batch, heads, tokens, dim], key and value [batch, kv_heads, capacity, dim].


def _refuse_what_is_ignored(dropout: float, kwargs: Mapping[str, Any]) -> None:
    asked = [name for name in ("softcap", "sliding_window", "s_aux") if kwargs.get(name) is not None]
    if asked or dropout:
        raise UnsupportedError(f"winnow.hf: attention with {' and '.join(asked) or 'dropout'} is not computed: take another "
                               "attn_implementation for this model")


def _wants_gradients(*inputs: torch.Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """[batch, heads, tokens, dim] as [batch * tokens, heads, dim]: a view of a query as models make it."""
    return tensor.transpose(1, 2).flatten(0, 1)


def _spec_for(module: torch.nn.Module, query: torch.Tensor, scaling: float | None) -> dict[str, Any]:
    spec = _spec_of(module.config)
    if scaling is not None and not math.isclose(scaling, query.shape[-1] ** -0.5):
        spec = dict(spec, scale=float(scaling))
    return spec


def _attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    _refuse_what_is_ignored(dropout, kwargs)
    query, key, value = _in_autocast(query, key, value)
    spec = _spec_for(module, query, scaling)
    if packed := _packed(attention_mask, query, key, kwargs):
        out = sparse_attention(_flat(query), _flat(key), _flat(value), *packed, **spec)
    elif _wants_gradients(query, key, value):
        out = _attend_in_training(query, key, value, _spans_of(attention_mask), spec)
    else:
        out = _attend_cached(query, key, value, _spans_of(attention_mask), spec)
    return out.unflatten(0, (query.shape[0], query.shape[2])), None


def _attend_in_training(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, spans: _Spans,
                        spec: dict[str, Any]) -> torch.Tensor:
    """All keys are of this call. Padding goes behind all sequences, and belongs to none."""
    batch, tokens = query.shape[0], query.shape[2]
    if key.shape[2] != tokens:
        raise UnsupportedError("winnow.hf: there is no gradient where a cache holds earlier keys: train with "
                               "use_cache=False, or call the model under torch.no_grad()")
    if spans.begin is None:
        cu = torch.arange(0, (batch + 1) * tokens, tokens, dtype=torch.int32, device=query.device)
        return sparse_attention(_flat(query), _flat(key), _flat(value), cu, max_q=tokens, max_k=tokens, **spec)
    counts, order = _padding_last(spans, tokens)
    cu = _cumulative(counts)
    is_padding = (torch.arange(len(order), device=order.device) >= cu[-1]).view(-1, 1, 1)
    # Filled before and behind attention, which writes no rows of padding: gradients with respect to q, k and v are filled by the former.
    packed = [_flat(tensor)[order].masked_fill(is_padding, 0) for tensor in (query, key, value)]
    out = sparse_attention(*packed, cu, max_q=tokens, max_k=tokens, **spec).masked_fill(is_padding, 0)
    return torch.empty_like(out).index_copy_(0, order, out)


def _attend_cached(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, spans: _Spans,
                   spec: dict[str, Any]) -> torch.Tensor:
    """The cache is paged: a page is the row of a sequence. A step of one token is one small kernel and the launch.

    Keys that have no cache, or the first ones of one that grows, are copied where their pages were read slowly.
    """
    batch, tokens = query.shape[0], query.shape[2]
    q, order = _flat(query), None
    cu_q = torch.arange(0, (batch + 1) * tokens, tokens, dtype=torch.int32, device=query.device)
    if spans.begin is None and tokens == key.shape[2] and tokens % _BULK_TOKENS and not hasattr(key, _ROWS):
        return sparse_attention(q, _flat(key), _flat(value), cu_q, max_q=tokens, max_k=tokens, **spec)
    if spans.begin is not None and tokens > 1:
        counts, order = _padding_last(spans, tokens)
        cu_q, q = _cumulative(counts), q[order]
    table = cu_q[:-1] if tokens == 1 else torch.arange(batch, dtype=torch.int32, device=query.device)
    cached = _Cached(key.transpose(1, 2), value.transpose(1, 2), table.unsqueeze(1), spans)
    # Zeros: what is not written, the answer at padding, is an input of the next layer.
    out = None if order is None else q.new_zeros((*q.shape[:2], value.shape[-1]))
    out = attention_with_kvcache(
        q, cached.keys, cached.values, _rows(q, key, cached, tokens, spec), cu_seqlens_q=cu_q, cache_seqlens=spans.count,
        page_table=cached.table, k_begin=spans.begin, max_q=tokens, max_k=key.shape[2], out=out, **spec)
    return out if order is None else torch.empty_like(out).index_copy_(0, order, out)


class _Cached(NamedTuple):
    """A cache as attention reads it: pages [batch, capacity, kv_heads, dim], one for each sequence."""

    keys: torch.Tensor
    values: torch.Tensor
    table: torch.Tensor
    spans: _Spans


def _cumulative(counts: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(counts.cumsum(0, dtype=torch.int32), (1, 0))


def _padding_last(spans: _Spans, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """How many query tokens of each sequence are no padding, and an order of all in which padding comes last."""
    padding = (tokens - spans.count).clamp(min=0)
    is_padding = torch.arange(tokens, device=padding.device) < padding.unsqueeze(1)
    return tokens - padding, is_padding.flatten().to(torch.int32).argsort(stable=True)


@functools.cache
def _warn_of_lost_rows() -> None:
    warnings.warn("winnow.hf: this cache keeps no summaries of its keys, so that each step makes them anew from all keys: "
                  "give generate() past_key_values=winnow.hf.Cache(model.config, max_cache_len=...)", stacklevel=2)


class _Rows:
    """The rows that a layer of a cache keeps, and of how many of its tokens: other attention functions append none.

    The counts are the host's. A captured graph moves them on once, when it is captured, and both alike, so that they tell
    still whether a launch is missing; lengths are read on the device.
    """

    def __init__(self) -> None:
        self.tensors: list[torch.Tensor] = []
        self.cached = self.appended = 0

    def fit(self, key: torch.Tensor, layout: tuple[tuple[int, int], ...]) -> bool:
        """Whether there are rows of this layout for the keys [batch, kv_heads, capacity, dim]; makes room for them."""
        batch, kv_heads, capacity, dim = key.shape
        if any(capacity % stride for _, stride in layout):
            return False
        shapes = [(batch, capacity // stride, kv_heads, dim) for _, stride in layout]
        if [tensor.shape for tensor in self.tensors] != shapes:
            self.tensors, self.appended = [key.new_zeros(shape) for shape in shapes], 0
        return True


def _is_captured(tensor: torch.Tensor) -> bool:
    """Whether what is launched now runs later, and again."""
    return torch.compiler.is_compiling() or tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def _rows(q: torch.Tensor, key: torch.Tensor, cached: _Cached, tokens: int, spec: dict[str, Any]) -> list[torch.Tensor]:
    """What the launch over the newest `tokens` appends to; rows that earlier keys lack are made first."""
    layout = rows_layout(q, cached.keys, cached.values, **spec)
    rows: _Rows | None = getattr(key, _ROWS, None)
    if not layout or not rows or not rows.fit(key, layout):
        if layout and tokens == 1 and not torch.compiler.is_compiling():
            _warn_of_lost_rows()
        return []
    if rows.appended != rows.cached - tokens:
        if _is_captured(key):
            return []
        append_rows(cached.keys, rows.tensors, cu_seqlens_q=_cumulative(cached.spans.count), page_table=cached.table,
                    cache_seqlens=cached.spans.count, k_begin=cached.spans.begin, max_q=key.shape[2], max_k=key.shape[2],
                    spec=spec_text(q, cached.keys, cached.values, **spec))
    rows.appended = rows.cached
    return rows.tensors


# Attention for generate_batch: query [1, heads, tokens, dim], key and value of the new tokens alone, and the cache.


def _attention_over_pages(module, query, key, value, attention_mask, scaling=None, dropout=0.0, *, cache=None,
                          cu_seq_lens_q=None, cu_seq_lens_k=None, max_seqlen_q=0, max_seqlen_k=0, read_index=(),
                          write_index=(), block_table=None, **kwargs):
    _refuse_what_is_ignored(dropout, kwargs)
    if _wants_gradients(query, key, value):
        raise UnsupportedError("winnow.hf: paged|winnow has no gradient: train with attn_implementation=\"winnow\"")
    if cache is None or block_table is not None:
        raise UnsupportedError("winnow.hf: paged|winnow is for model.generate_batch, by indices of its cache: take winnow "
                               "elsewhere, and set max_blocks_per_request to 0")
    group, index = cache.layer_index_to_group_indices[module.layer_idx]
    if cache.sliding_windows[module.layer_idx] != 1:
        _refuse_what_is_ignored(dropout, dict(sliding_window=cache.sliding_windows[module.layer_idx]))
    spec, q = _spec_for(module, query, scaling), _flat(query)
    k_cache, v_cache = (tensors[index].unflatten(0, (-1, cache.block_size)) for tensors in (cache.key_cache, cache.value_cache))
    rows = _rows_of_pages(cache.key_cache[index], rows_layout(q, k_cache, v_cache, **spec), cache.block_size)
    for tensors, states in ((cache.key_cache, key), (cache.value_cache, value)):
        tensors[index].index_copy_(0, write_index[group], _flat(states))
    rows.see(cache.key_cache[index])
    # Where nothing is read, every key is a new one.
    slots = read_index[group] if len(read_index[group]) else write_index[group]
    cu_k, max_k = (one["full_attention"] if isinstance(one, dict) else one for one in (cu_seq_lens_k, max_seqlen_k))
    out = attention_with_kvcache(
        q, k_cache, v_cache, rows.tensors, cu_seqlens_q=cu_seq_lens_q, cache_seqlens=cu_k.diff(), max_q=max_seqlen_q,
        max_k=max_k, page_table=_page_table(slots, cu_k, max_k, cache.block_size),
        out=q.new_zeros((*q.shape[:2], v_cache.shape[-1])), **spec)  # zeros: the tokens that pad a graph's batch
    return out.unsqueeze(0), None


def _page_table(slots: torch.Tensor, cu_k: torch.Tensor, max_k: int, block: int) -> torch.Tensor:
    """[batch, pages of the longest]. slots: where in the cache each key lies, those of one sequence behind another's."""
    firsts = cu_k[:-1, None] + torch.arange(0, max_k, block, dtype=torch.int32, device=cu_k.device)
    return (slots[firsts.clamp(max=len(slots) - 1)] // block).to(torch.int32)


class _PageRows:
    """The rows of a layer's pages.

    They are those of the keys for as long as attention alone writes keys. Who copies pages (a request that forks, one that
    returns from the host's memory) does not copy rows, and what a graph writes is not seen here: from then on each launch
    makes rows anew, in its workspace.
    """

    # Of a tensor of keys that nobody has written to: transformers fills the page that padding reads.
    _NEW = 1

    def __init__(self, keys: torch.Tensor, layout: tuple[tuple[int, int], ...], block: int) -> None:
        self.layout, self.version = layout, self._NEW
        fits = not any(block % stride for _, stride in layout)
        self.tensors = [keys.new_zeros(len(keys) // block, block // stride, *keys.shape[1:]) for _, stride in layout if fits]

    def drop_unless_current(self, keys: torch.Tensor, layout: tuple[tuple[int, int], ...]) -> None:
        if self.tensors and (_is_captured(keys) or layout != self.layout or keys.is_inference() or
                             keys._version != self.version):
            self.tensors = []
            _warn_of_copied_pages()

    def see(self, keys: torch.Tensor) -> None:
        """What was written to keys until now has its rows, or will have after the launch."""
        if self.tensors:
            self.version = keys._version


def _rows_of_pages(keys: torch.Tensor, layout: tuple[tuple[int, int], ...], block: int) -> _PageRows:
    rows: _PageRows | None = getattr(keys, _ROWS, None)
    if rows is None:
        rows = _PageRows(keys, layout, block)
        setattr(keys, _ROWS, rows)
    rows.drop_unless_current(keys, layout)
    return rows


@functools.cache
def _warn_of_copied_pages() -> None:
    warnings.warn("winnow.hf: pages of this cache were written by others (a fork, a copy back from the host, a graph), so that "
                  "each step makes the summaries of keys anew: generate one sequence a prompt, without offloading and graphs",
                  stacklevel=2)


# The cache.


class _Layer(StaticLayer):
    """Keys, values, and the rows of the keys, which attention appends to. What was cached is never changed."""

    is_compileable = False

    def __init__(self, max_cache_len: int) -> None:
        super().__init__(max_cache_len)
        self.rows = _Rows()

    def update(self, key_states, value_states, *args, **kwargs):
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        self.rows.cached += key_states.shape[2]
        setattr(keys, _ROWS, self.rows)
        return keys, values

    def reset(self) -> None:
        super().reset()
        self.rows.cached = self.rows.appended = 0

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        super().reorder_cache(beam_idx)
        self.rows.tensors = [rows.index_select(0, beam_idx.to(rows.device)) for rows in self.rows.tensors]


class Cache(_Cache):
    """Room for max_cache_len tokens of each sequence, allocated at first use, and for the summaries of their keys."""

    def __init__(self, config: PreTrainedConfig, max_cache_len: int) -> None:
        capacity = -(-max_cache_len // _CAPACITY_STEP) * _CAPACITY_STEP
        count = config.get_text_config(decoder=True).num_hidden_layers
        super().__init__(layers=[_Layer(capacity) for _ in range(count)])
