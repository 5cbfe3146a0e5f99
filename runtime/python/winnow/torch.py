"""Attention as torch operators, for eager code, torch.compile and torch.export. Importing this module registers them.

    from winnow.torch import sparse_attention
    out = sparse_attention(q, k, v, cu_seqlens, max_q=longest, max_k=longest, method="infllm_v2", topk=96)

The names of arguments are FlashAttention's. The operators are torch.ops.winnow.*: a program is named in them by the text
of its spec, so that graphs can be saved, and prepared at its first call; serving calls winnow.torch.prepare before.
sparse_attention has gradients with respect to q, k and v over the blocks that it has selected; the selection, lse and
attention over a cache have none.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from . import _engine, _winnow
from ._spec import Spec

__all__ = ["append_rows", "attention_with_kvcache", "merge", "prepare", "rows_layout", "sparse_attention", "spec_text"]

_library = torch.library.Library("winnow", "DEF")
_TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order)


@functools.cache
def _program(spec: str, device: torch.device) -> _winnow.Program:
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():  # nothing is loaded into a capture, which goes on
        return _engine.find(Spec(**json.loads(spec)), device=device.index)
    return _engine.prepare(Spec(**json.loads(spec)), device=_winnow.CPU if device.type == "cpu" else device.index)


def _program_for(spec: str, tensor: torch.Tensor) -> _winnow.Program:
    return _program(spec, tensor.device)


@functools.cache
def _text_of(method: str | Spec, fields: tuple[tuple[str, Any], ...]) -> str:
    spec = method if isinstance(method, Spec) else Spec(method, **dict(fields))
    spec = dataclasses.replace(spec, value_dim=spec.value_dim or spec.head_dim)  # one text for one program
    return json.dumps(dataclasses.asdict(spec), sort_keys=True)


def _hashable(fields: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Fields of a spec with mappings as tuples. It is done at each call: isinstance of dict takes a tenth of Mapping's time."""
    return tuple([(name, tuple(value.items()) if isinstance(value, dict) else value) for name, value in fields.items()])


@torch.compiler.assume_constant_result
def _text(method: str | Spec, fields: dict[str, Any]) -> str:
    """The text of a spec, made once for each."""
    return _text_of(method, () if isinstance(method, Spec) else _hashable(fields))


def _text_for(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, method: str | Spec, paged: bool,
              spec: dict[str, Any]) -> str:
    """What is not said of a spec is read off the tensors."""
    if isinstance(method, Spec) and spec:
        raise _winnow.InvalidError(f"a Spec is given, and {', '.join(spec)} beside it: give one of both")
    kv_dtype = {"kv_dtype": k.dtype} if k.dtype == torch.float8_e4m3fn else {}
    return _text(method, dict(heads=q.shape[-2], kv_heads=k.shape[-2], head_dim=q.shape[-1], value_dim=v.shape[-1],
                              dtype=q.dtype, paged=paged, **{**kv_dtype, **spec}))


def prepare(method: str | Spec, *, device: torch.device | str, **spec: Any) -> str:
    """Prepares a program before it is called, and gives the text by which operators name it."""
    text = _text(method, spec)
    place = torch.device(device)
    if place.type == "cuda" and place.index is None:
        place = torch.device("cuda", torch.cuda.current_device())
    _program(text, place)
    return text


def _ids(program: _winnow.Program, q: torch.Tensor) -> torch.Tensor:
    return torch.empty((program.select_heads, q.shape[0], program.spec.topk), dtype=torch.int32, device=q.device)


@functools.lru_cache(maxsize=4096)
def _room_size(program: _winnow.Program, batch: int, total_q: int, total_k: int, max_q: int, max_k: int) -> int:
    return program.workspace_size(batch=batch, total_q=total_q, total_k=total_k, max_q=max_q, max_k=max_k)


def _room(program: _winnow.Program, q: torch.Tensor, batch: int, max_q: int, max_k: int, total_k: int = 0) -> torch.Tensor:
    size = _room_size(program, batch, q.shape[0], total_k, max_q, max_k)
    return torch.empty(size, dtype=torch.uint8, device=q.device)


# Functional attention over packed tensors.

_library.define(
    "sparse_attention(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens_q, Tensor cu_seqlens_k, SymInt max_q, SymInt max_k,"
    " str spec) -> (Tensor out, Tensor lse, Tensor ids)", tags=_TAGS)


def _sparse_attention(q, k, v, cu_seqlens_q, cu_seqlens_k, max_q, max_k, spec):
    program = _program_for(spec, q)
    out = q.new_empty((q.shape[0], q.shape[1], v.shape[2]))
    lse = torch.empty((q.shape[1], q.shape[0]), dtype=torch.float32, device=q.device)
    ids = _ids(program, q)
    room = _room(program, q, batch=cu_seqlens_q.shape[0] - 1, total_k=k.shape[0], max_q=max_q, max_k=max_k)
    program.launch(q.contiguous(), k.contiguous(), v.contiguous(), out, lse=lse, ids=ids, cu_q=cu_seqlens_q, cu_k=cu_seqlens_k,
                   max_q=max_q, max_k=max_k, workspace=room)
    return out, lse, ids


_library.define(
    "sparse_attention_backward(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor ids,"
    " Tensor cu_seqlens_q, Tensor cu_seqlens_k, SymInt max_q, SymInt max_k, str spec) -> (Tensor dq, Tensor dk, Tensor dv)",
    tags=_TAGS)


def _sparse_attention_backward(dout, q, k, v, out, lse, ids, cu_seqlens_q, cu_seqlens_k, max_q, max_k, spec):
    program = _program_for(spec, q)
    dout, q, k, v = (tensor.contiguous() for tensor in (dout, q, k, v))
    dq, dk, dv = (torch.empty_like(tensor) for tensor in (q, k, v))
    room = torch.empty(
        program.backward_workspace_size(batch=cu_seqlens_q.shape[0] - 1, total_q=q.shape[0], total_k=k.shape[0],
                                        max_q=max_q, max_k=max_k), dtype=torch.uint8, device=q.device)
    program.launch_backward(q, k, v, out, lse=lse, ids=ids, dout=dout, dq=dq, dk=dk, dv=dv,
                            cu_q=cu_seqlens_q, cu_k=cu_seqlens_k, max_q=max_q, max_k=max_k, workspace=room)
    return dq, dk, dv


def _sparse_attention_backward_fake(dout, q, k, v, *_):
    return tuple(tensor.new_empty(tensor.shape) for tensor in (q, k, v))


def _keep_for_backward(ctx, inputs, output):
    q, k, v, cu_seqlens_q, cu_seqlens_k, *ctx.numbers = inputs
    ctx.save_for_backward(q, k, v, *output, cu_seqlens_q, cu_seqlens_k)
    ctx.mark_non_differentiable(*output[1:])  # lse and ids


def _gradients(ctx, dout, *_):
    found = torch.ops.winnow.sparse_attention_backward(dout, *ctx.saved_tensors, *ctx.numbers)
    return (*found, None, None, None, None, None)


def _no_second_gradients(ctx, *_):
    raise _winnow.UnsupportedError("winnow.torch: sparse_attention has no second derivatives: call backward without create_graph")


def _sparse_attention_fake(q, k, v, cu_seqlens_q, cu_seqlens_k, max_q, max_k, spec):
    heads, topk = _select_heads(spec, q.device), json.loads(spec)["topk"]
    return (q.new_empty((q.shape[0], q.shape[1], v.shape[2])),
            q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32),
            q.new_empty((heads, q.shape[0], topk), dtype=torch.int32))


def _select_heads(spec: str, device: torch.device) -> int:
    """Heads of the ids of a spec: a question to its program, on the CPU where the device is not there."""
    is_there = device.type == "cuda" and torch.cuda.is_available()
    return _program(spec, device if is_there else torch.device("cpu")).select_heads


# Attention over a paged cache, in place.

_library.define(
    "attention_with_kvcache(Tensor q, Tensor k_cache, Tensor v_cache, Tensor(a!)[] rows, Tensor cu_seqlens_q,"
    " Tensor cache_seqlens, Tensor page_table, SymInt max_q, SymInt max_k, str spec, Tensor(b!) out, Tensor(c!)? lse,"
    " Tensor(d!)? ids, Tensor(e!)? workspace, Tensor? k_begin=None, Tensor? k_descale=None, Tensor? v_descale=None) -> ()",
    tags=_TAGS)


def _attention_with_kvcache(q, k_cache, v_cache, rows, cu_seqlens_q, cache_seqlens, page_table, max_q, max_k, spec, out,
                            lse, ids, workspace, k_begin=None, k_descale=None, v_descale=None):
    _launch_over_pages(_program_for(spec, q), q, k_cache, v_cache, rows, cu_seqlens_q, cache_seqlens, page_table, max_q, max_k,
                       out, lse, ids, workspace, k_begin, k_descale, v_descale)


def _launch_over_pages(program, q, k_cache, v_cache, rows, cu_seqlens_q, cache_seqlens, page_table, max_q, max_k, out, lse, ids,
                       workspace, k_begin, k_descale, v_descale):
    if ids is None and program.select_heads:
        ids = _ids(program, q)
    if workspace is None:
        workspace = _room(program, q, batch=cu_seqlens_q.shape[0] - 1, max_q=max_q, max_k=max_k)
    program.launch(q, k_cache, v_cache, out, lse=lse, ids=ids, rows=list(rows) or None, cu_q=cu_seqlens_q, seq_k=cache_seqlens,
                   page_table=page_table, k_begin=k_begin, k_scale=k_descale, v_scale=v_descale, max_q=max_q, max_k=max_k,
                   workspace=workspace)


_library.define(
    "append_rows(Tensor k_cache, Tensor(a!)[] rows, Tensor cu_seqlens_q, Tensor cache_seqlens, Tensor page_table,"
    " SymInt max_q, SymInt max_k, str spec, Tensor? k_begin=None, Tensor? k_descale=None) -> ()", tags=_TAGS)


def _append_rows(k_cache, rows, cu_seqlens_q, cache_seqlens, page_table, max_q, max_k, spec, k_begin=None, k_descale=None):
    _program_for(spec, k_cache).launch(
        None, k_cache, rows=rows, cu_q=cu_seqlens_q, seq_k=cache_seqlens, page_table=page_table, k_begin=k_begin,
        k_scale=k_descale, max_q=max_q, max_k=max_k, phase="append")


def _in_place_fake(*_):
    return None


for _name, _function, _fake in (("sparse_attention", _sparse_attention, _sparse_attention_fake),
                                ("sparse_attention_backward", _sparse_attention_backward,
                                 _sparse_attention_backward_fake),
                                ("attention_with_kvcache", _attention_with_kvcache, _in_place_fake),
                                ("append_rows", _append_rows, _in_place_fake)):
    for _key in ("CPU", "CUDA"):
        _library.impl(_name, _function, _key)
    torch.library.register_fake(f"winnow::{_name}", _fake, lib=_library)
torch.library.register_autograd("winnow::sparse_attention", _gradients, setup_context=_keep_for_backward, lib=_library)
torch.library.register_autograd("winnow::sparse_attention_backward", _no_second_gradients, lib=_library)


# Eager calls: serving makes one for each layer of each step, and the dispatcher takes longer than the launch.

# Every call asks these, so they are looked up once, and of several that answer alike the quickest is asked.
_is_compiling, _is_tracing, _profiler = torch.compiler.is_dynamo_compiling, torch._C._is_tracing, torch.autograd.profiler
_dispatch_modes, _function_modes = torch._C._len_torch_dispatch_stack, torch._C._len_torch_function_stack
_is_transformed, _Tensor = torch._C._are_functorch_transforms_active, torch.Tensor


def _is_watched(q: torch.Tensor) -> bool:
    """Whether a call has to be an operator: torch compiles, traces, transforms or records it, or q is no plain tensor."""
    return (_is_compiling() or type(q) is not _Tensor or _dispatch_modes() > 0 or _function_modes() > 0
            or _is_transformed() or _is_tracing() or _profiler._is_profiler_enabled)


_known: dict[tuple[Any, ...], _winnow.Program] = {}


def _known_program(q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, method: str | Spec,
                   spec: dict[str, Any]) -> _winnow.Program:
    """The program of a call over pages, by what tells it from others."""
    shape = q.shape
    key = (method, shape[-2], shape[-1], k_cache.shape[-2], v_cache.shape[-1], q.dtype, k_cache.dtype, q.device,
           _hashable(spec))
    program = _known.get(key)
    if program is None:
        program = _known[key] = _program_for(_text_for(q, k_cache, v_cache, method, True, spec), q)
    return program


# Programs of the last calls, each by what the shapes and the device of its tensors do not tell: a launch checks those anyway,
# sooner than they can be asked for here. Replaced as a whole, for threads that read it.
_recent: tuple[tuple[tuple[Any, ...], _winnow.Program], ...] = ()
_MOST_RECENT = 8


def _remember(call: tuple[Any, ...], program: _winnow.Program) -> None:
    global _recent
    method, dtype, spec = call
    own = {name: dict(value) if isinstance(value, dict) else value for name, value in spec.items()}  # the caller's may change
    _recent = (((method, dtype, own), program), *[entry for entry in _recent if entry[0] != call])[:_MOST_RECENT]


def _recent_program(call: tuple[Any, ...]) -> _winnow.Program | None:
    for known, program in _recent:
        if known == call:
            return program
    return None


def _in_autocast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """In autocast's dtype where it is on, as torch's own attention takes them; else as they are."""
    place = tensors[0].device.type
    if not torch.is_autocast_enabled(place):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(place)) for tensor in tensors)


def sparse_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens_q: torch.Tensor,
                     cu_seqlens_k: torch.Tensor | None = None, max_q: int | None = None, max_k: int | None = None, *,
                     method: str | Spec, return_lse: bool = False, return_ids: bool = False, **spec: Any):
    """Causal attention over the blocks that `method` selects: [total_q, heads, value_dim].

    q: [total_q, heads, dim]; k, v: [total_k, kv_heads, dim]. cu_seqlens_k: None is cu_seqlens_q. max_q, max_k: upper
    bounds of the lengths, better tight; None: all tokens. spec: block, topk, params, ... of Spec. The results: out, or a
    tuple with lse [heads, total_q] and ids [select_heads, total_q, topk] where they are asked for. Where a gradient is
    wanted, the program is one with backward=True; a Spec says it itself. Under autocast q, k and v are taken in its dtype.
    Tokens outside all sequences: neither their rows of out nor their gradients are written.
    """
    q, k, v = _in_autocast(q, k, v)
    wants_gradient = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if not isinstance(method, Spec):
        spec.setdefault("backward", wants_gradient)
    arguments = (q, k, v, cu_seqlens_q, cu_seqlens_q if cu_seqlens_k is None else cu_seqlens_k,
                 q.shape[0] if max_q is None else max_q, k.shape[0] if max_k is None else max_k,
                 _text_for(q, k, v, method, False, spec))
    is_operator = wants_gradient or _is_watched(q) or type(k) is not _Tensor or type(v) is not _Tensor
    out, lse, ids = (torch.ops.winnow.sparse_attention if is_operator else _sparse_attention)(*arguments)
    more = (*([lse] if return_lse else []), *([ids] if return_ids else []))
    return (out, *more) if more else out


def attention_with_kvcache(q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor,
                           rows: Sequence[torch.Tensor] = (), *, cu_seqlens_q: torch.Tensor, cache_seqlens: torch.Tensor,
                           page_table: torch.Tensor, max_q: int | None = None, max_k: int | None = None,
                           k: torch.Tensor | None = None, v: torch.Tensor | None = None,
                           slot_mapping: torch.Tensor | None = None, out: torch.Tensor | None = None,
                           lse: torch.Tensor | None = None, ids: torch.Tensor | None = None,
                           workspace: torch.Tensor | None = None, k_begin: torch.Tensor | None = None,
                           k_descale: torch.Tensor | None = None, v_descale: torch.Tensor | None = None,
                           method: str | Spec, **spec: Any) -> torch.Tensor:
    """Attention of new tokens over a paged cache, which holds their keys and values or is given them; gives `out`.

    k_cache, v_cache: [pages, tokens, kv_heads, dim], any strides. cache_seqlens: [batch], new tokens included.
    page_table: [batch, pages of the longest]. max_q, max_k: upper bounds of new tokens and of all; None: as many as q and
    page_table have room for, which is right and slower (up to 16 new tokens are a step of decode).
    k, v: [total_q, kv_heads, dim], written to the cache first, each token to its place in its sequence, or to
    slot_mapping [total_q] (page * tokens of a page + place; negative: not written): some 15 small operators each, which an
    engine with a kernel of its own leaves out; slot_mapping is the same in every layer, so a step makes it once.
    rows: the summaries that the host keeps (Program.rows_layout); the new keys' are appended first. k_begin: [batch],
    tokens of the first page before the first key (left padding). A cache of float8_e4m3fn, or of its bits as uint8 with
    kv_dtype="fp8_e4m3", has true keys and values that are the stored ones times k_descale and v_descale: [kv_heads]
    float32, None: times 1. Without k and v, and with out, ids and workspace given, nothing is allocated.
    """
    if out is None:
        out = q.new_empty((q.shape[0], q.shape[1], v_cache.shape[-1]))
    if max_q is None:
        max_q = q.shape[0]
    if max_k is None:
        max_k = page_table.shape[1] * k_cache.shape[1]
    is_watched = _is_watched(q)
    if k is not None or v is not None or slot_mapping is not None:
        if not is_watched:  # a call whose program is not there, in a capture say, is refused before it writes
            _known_program(q, k_cache, v_cache, method, spec)
        if slot_mapping is None:
            slot_mapping = _slots(q.shape[0], k_cache.shape[1], cu_seqlens_q, cache_seqlens, page_table, k_begin)
        _write_keys(q.dtype, k, v, k_cache, v_cache, slot_mapping, k_descale, v_descale)
    if is_watched:
        torch.ops.winnow.attention_with_kvcache(
            q, k_cache, v_cache, list(rows), cu_seqlens_q, cache_seqlens, page_table, max_q, max_k,
            _text_for(q, k_cache, v_cache, method, True, spec), out, lse, ids, workspace, k_begin, k_descale, v_descale)
        return out
    call = (method, q.dtype, spec)
    refusal, recent = None, _recent_program(call)
    if recent is not None:
        try:
            _launch_over_pages(recent, q, k_cache, v_cache, rows, cu_seqlens_q, cache_seqlens, page_table, max_q, max_k, out, lse,
                               ids, workspace, k_begin, k_descale, v_descale)
            return out
        except _winnow.InvalidError as error:  # the tensors are of another program, or wrong for every one
            refusal = error
    program = _known_program(q, k_cache, v_cache, method, spec)
    if program is recent:
        raise refusal
    _launch_over_pages(program, q, k_cache, v_cache, rows, cu_seqlens_q, cache_seqlens, page_table, max_q, max_k, out, lse, ids,
                       workspace, k_begin, k_descale, v_descale)
    _remember(call, program)
    return out


def _slots(tokens: int, page_size: int, cu_seqlens_q: torch.Tensor, cache_seqlens: torch.Tensor, page_table: torch.Tensor,
           k_begin: torch.Tensor | None) -> torch.Tensor:
    """Where the keys of new tokens belong: [tokens]; -1 for tokens outside all sequences."""
    token = torch.arange(tokens, device=cu_seqlens_q.device, dtype=torch.int32)
    sequence = torch.bucketize(token, cu_seqlens_q[1:], right=True)
    batch = cache_seqlens.shape[0]
    inside = (sequence < batch) & (token >= cu_seqlens_q[0])
    sequence = sequence.clamp(max=batch - 1)
    place = cache_seqlens[sequence] - cu_seqlens_q[sequence + 1] + token
    if k_begin is not None:
        place = place + k_begin[sequence]
    page = page_table[sequence, torch.where(inside, place, 0).clamp(min=0) // page_size]
    return torch.where(inside & (place >= 0), page.long() * page_size + place % page_size, -1)


def _write(cache: torch.Tensor, tokens: torch.Tensor, slots: torch.Tensor, descale: torch.Tensor | None, dtype: torch.dtype) -> None:
    """Writes tokens to the slots of a cache but for negative ones. Nothing is read back to the host: the tokens that are not
    to be written repeat one that is, or what the cache holds. dtype: of elements whose bits the cache holds as uint16."""
    if cache.dtype in (torch.float8_e4m3fn, torch.uint8):
        true = tokens.float() if descale is None else tokens.float() / descale[:, None]
        tokens = true.clamp(-448, 448).to(torch.float8_e4m3fn)  # of e4m3; beyond it a cast makes NaN
        tokens, cache = tokens.view(torch.uint8), cache.view(torch.uint8)
    else:
        tokens, cache = tokens.view(dtype) if tokens.dtype == torch.uint16 else tokens.to(dtype), cache.view(dtype)
    is_written = slots >= 0
    one = is_written.int().argmax(0, keepdim=True)  # [1]: an index without dimensions would be read by the host
    slot = torch.where(is_written[one], slots[one], 0)
    page_size = cache.shape[1]
    held = torch.where(is_written[one, None, None], tokens[one], cache[slot // page_size, slot % page_size])
    slots = torch.where(is_written, slots, slot)
    cache[slots // page_size, slots % page_size] = torch.where(is_written[:, None, None], tokens, held)


@torch.no_grad()
def _write_keys(dtype, k, v, k_cache, v_cache, slots, k_descale, v_descale) -> None:
    def refuse(what: str) -> None:
        raise _winnow.InvalidError(f"attention_with_kvcache: {what}")

    if k is None or v is None:
        refuse("k, v and slot_mapping: give k and v, or none of the three")
    if dtype not in (torch.bfloat16, torch.float16):
        refuse(f"q is {dtype}: new keys are written for bfloat16 and float16")
    for name, tokens, cache in (("k", k, k_cache), ("v", v, v_cache)):
        if tokens.shape[1:] != cache.shape[2:] or tokens.shape[0] != k.shape[0]:
            refuse(f"{name} has shape {tuple(tokens.shape)}, not {(k.shape[0], *cache.shape[2:])}: tokens as the cache holds them")
        if cache.dtype not in (dtype, torch.float8_e4m3fn, torch.uint8, torch.uint16):
            refuse(f"{name}_cache is {cache.dtype}, q {dtype}: a cache has the dtype of q, or is fp8")
    if slots.shape != k.shape[:1] or slots.dtype not in (torch.int32, torch.int64):
        refuse(f"slot_mapping has shape {tuple(slots.shape)} and is {slots.dtype}, not {tuple(k.shape[:1])} of int32 or int64: "
               "a slot for each token of k")
    if k.shape[0] > 0:
        _write(k_cache, k, slots, k_descale, dtype)
        _write(v_cache, v, slots, v_descale, dtype)


def append_rows(k_cache: torch.Tensor, rows: Sequence[torch.Tensor], *, cu_seqlens_q: torch.Tensor,
                cache_seqlens: torch.Tensor, page_table: torch.Tensor, max_q: int, max_k: int, spec: str,
                k_begin: torch.Tensor | None = None, k_descale: torch.Tensor | None = None) -> None:
    """Writes the summaries whose last key is among the new ones. spec: what prepare or spec_text gave."""
    torch.ops.winnow.append_rows(k_cache, list(rows), cu_seqlens_q, cache_seqlens, page_table, max_q, max_k, spec, k_begin,
                                 k_descale)


def spec_text(q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, *, method: str | Spec, **spec: Any) -> str:
    """The text by which operators name the program of attention_with_kvcache over these tensors."""
    return _text_for(q, k_cache, v_cache, method, True, spec)


@torch.compiler.assume_constant_result
def _rows_layout(spec: str, device: torch.device) -> tuple[tuple[int, int], ...]:
    return _program(spec, device).rows_layout


def rows_layout(q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, *, method: str | Spec,
                **spec: Any) -> tuple[tuple[int, int], ...]:
    """Window and stride of each summary, in tokens: what `rows` of attention_with_kvcache are to be."""
    return _rows_layout(spec_text(q, k_cache, v_cache, method=method, **spec), q.device)


def merge(outs: Sequence[torch.Tensor], lses: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over several disjoint sets of keys as attention over all of them: out and lse, as of one call.

    outs: [total_q, heads, dim] each; lses: [heads, total_q] each, -inf where a row has no keys.
    """
    parts = torch.stack(list(lses))
    whole = torch.logsumexp(parts, 0)
    shares = torch.where(parts == -torch.inf, 0, torch.exp(parts - whole)).transpose(1, 2).unsqueeze(-1)
    out = (torch.stack([part.float() for part in outs]) * shares).sum(0)
    return out.to(outs[0].dtype), whole
