"""winnow.infllm_v2 on a GPU where torch sees one, else on the CPU: the calls of MiniCPM's remote code against recorded answers
of the module whose interface it has, and against attention in plain PyTorch."""

import os
import sys
import tempfile
import types
from pathlib import Path

_cache = tempfile.TemporaryDirectory()
os.environ["WINNOW_CACHE_DIR"] = _cache.name

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

import winnow  # noqa: E402
import winnow.infllm_v2  # noqa: E402

winnow.infllm_v2.install()
from infllm_v2 import (  # noqa: E402
    infllmv2_attn_stage1, infllmv2_attn_varlen_func, infllmv2_attn_with_kvcache, max_pooling_1d, max_pooling_1d_varlen)

RECORDED = Path(__file__).parents[3] / "reference/recorded"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOKENS, TOPK, LOCAL = 1500, 12, 2  # of the smallest recorded case; local blocks without the query's own


def normal(chance, *shape, scale=1.0):
    return torch.from_numpy(chance.standard_normal(shape).astype(np.float32) * scale).bfloat16().to(DEVICE)


@pytest.fixture(scope="module")
def inputs():
    """What reference/recorded/inputs.py makes."""
    chance = np.random.default_rng(11)
    return normal(chance, TOKENS, 32, 128, scale=1.5), normal(chance, TOKENS, 2, 128), normal(chance, TOKENS, 2, 128)


@pytest.fixture(scope="module")
def recorded():
    return {name: torch.from_numpy(np.load(RECORDED / f"t{TOKENS}/{name}.npy")).to(DEVICE)
            for name in ("tokens", "ids", "pooled", "out", "lse")}


def cumulative(*counts):
    return torch.tensor([0, *counts], device=DEVICE).cumsum(0, dtype=torch.int32)


def means(k, window, stride, lengths=None):
    """Of the windows of each sequence, packed, and their cumulative counts."""
    parts = [part.float().unfold(0, window, stride).mean(-1).to(k.dtype) if len(part) >= window else part[:0]
             for part in k.split(lengths or [len(k)])]
    return torch.cat(parts), cumulative(*map(len, parts))


def arguments(q, k, cu_q, lengths=None):
    """Of compressed_attention, as the remote code gives them."""
    (k1, cu_k1), (k2, cu_k2) = means(k, 32, 16, lengths), means(k, 128, 64, lengths)
    return dict(q=q, k=k1, k2=k2, kernel_size=32, kernel_stride=16, block_size=64, topk=TOPK, cu_seqlens_q=cu_q,
                cu_seqlens_k=cu_k1, cu_seqlens_k2=cu_k2, max_seqlen_q=int(cu_q.diff().max()),
                max_seqlen_k=int(cu_k1.diff().max()), init_blocks=1, local_blocks=LOCAL)


def by_scores(*, q, k, k2, cu_seqlens_q, cu_seqlens_k, cu_seqlens_k2, max_seqlen_q, max_seqlen_k, cache_lens=None, **_):
    """Scores of blocks by the functions that the remote code calls, and the blocks that it takes, ascending, -1 first."""
    is_prefill = cache_lens is None
    if is_prefill:
        cache_lens = torch.zeros_like(cu_seqlens_q[1:])
    score = infllmv2_attn_stage1(q, k, k2, cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k, cu_seqlens_v=cu_seqlens_k2,
                                 max_seqlen_q=max_seqlen_q, max_seqlen_k=max_seqlen_k, causal=is_prefill)
    pooled = max_pooling_1d_varlen(score, cu_seqlens_q, cu_seqlens_k, cache_lens, max_seqlen_q, max_seqlen_k,
                                   local_blocks=LOCAL, init_blocks=1, block_size=64, stride=16)
    own = torch.cat([(torch.arange(count, device=DEVICE) + cached) // 64
                     for count, cached in zip(cu_seqlens_q.diff().tolist(), cache_lens.tolist())])
    ids = pooled.float().topk(min(TOPK, pooled.shape[-1]), -1).indices.sort(-1).values
    return pooled, ids.masked_fill(ids > own[:, None], -1).int()


def same_sets(ids, wanted):
    """The share of picks that both have."""
    shared = sum(len({*a} & {*b} - {-1}) for a, b in zip(ids.flatten(0, 1).tolist(), wanted.flatten(0, 1).tolist()))
    return shared / int((wanted >= 0).sum())


def attention(q, k, v, ids):
    """In plain PyTorch: the queries are the last tokens of one sequence; ids None: all keys."""
    positions = torch.arange(len(k) - len(q), len(k), device=DEVICE)
    seen = (torch.arange(len(k), device=DEVICE) <= positions[:, None]).expand(k.shape[1], -1, -1)
    if ids is not None:
        chosen = torch.zeros(k.shape[1], len(q), -(-len(k) // 64) + 1, dtype=torch.bool, device=DEVICE)
        chosen.scatter_(-1, ids.long().masked_fill(ids < 0, chosen.shape[-1] - 1), True)
        seen = seen & chosen[..., :-1].repeat_interleave(64, -1)[..., : len(k)]
    q = q.float().unflatten(1, (k.shape[1], -1)).permute(1, 2, 0, 3)
    logits = (q @ k.float().permute(1, 2, 0).unsqueeze(1)) * q.shape[-1] ** -0.5
    logits = logits.masked_fill(~seen.unsqueeze(1), -torch.inf)
    out = logits.softmax(-1).nan_to_num() @ v.float().transpose(0, 1).unsqueeze(1)
    return out.permute(2, 0, 1, 3).flatten(1, 2), logits.logsumexp(-1).flatten(0, 1)


def check(out, wanted):
    torch.testing.assert_close(out.float(), wanted.float(), rtol=2e-2, atol=2e-2)


def test_recorded_scores_and_selection(inputs, recorded):
    q, k, _ = inputs
    given = arguments(q, k, cumulative(TOKENS))
    pooled, ids = by_scores(**given)
    at = recorded["tokens"].long()
    got, wanted = pooled[:, at].float(), recorded["pooled"]
    assert torch.equal(got.isinf(), wanted.isinf())
    finite = wanted.isfinite()
    torch.testing.assert_close(got[finite], wanted[finite], rtol=2e-2, atol=1e-3)
    for some in (ids, winnow.infllm_v2.compressed_attention(**given)):  # scores in bf16 are often equal
        assert same_sets(some[:, at], recorded["ids"]) > 0.98


def test_recorded_attention(inputs, recorded):
    at = recorded["tokens"].long()
    ids = torch.full((2, TOKENS, TOPK), -1, dtype=torch.int32, device=DEVICE)
    ids[:, at] = recorded["ids"]
    out, lse, _ = infllmv2_attn_varlen_func(*inputs, cumulative(TOKENS), cumulative(TOKENS), TOKENS, TOKENS, causal=True,
                                            return_attn_probs=True, topk_idx=ids)
    check(out[at], recorded["out"])
    torch.testing.assert_close(lse[:, at], recorded["lse"], rtol=1e-3, atol=1e-3)


def test_a_ragged_batch(inputs):
    q, k, v = inputs
    lengths, cu = [1100, 20, 380], cumulative(1100, 20, 380)
    given = arguments(q, k, cu, lengths)
    ids = winnow.infllm_v2.compressed_attention(**given)
    assert same_sets(ids, by_scores(**given)[1]) > 0.98
    out = infllmv2_attn_varlen_func(q, k, v, cu, cu, 1100, 1100, causal=True, topk_idx=ids)
    for part in (slice(0, 1100), slice(1100, 1120), slice(1120, 1500)):
        check(out[part], attention(q[part], k[part], v[part], ids[:, part])[0])


def test_decode(inputs):
    """One query a sequence, ids in any order."""
    q, k, v = inputs
    lengths, cached = [900, 500], torch.tensor([899, 499], dtype=torch.int32, device=DEVICE)
    q, k, v, cu_q = q[:2], k[:1400], v[:1400], cumulative(1, 1)
    given = dict(arguments(q, k, cu_q, lengths), cache_lens=cached)
    ids = winnow.infllm_v2.compressed_attention(**given)
    assert same_sets(ids, by_scores(**given)[1]) > 0.9
    ids = ids.flip(-1)
    out = infllmv2_attn_varlen_func(q, k, v, cu_q, cumulative(900, 500), 1, 900, causal=False, topk_idx=ids)
    for s, part in enumerate((slice(0, 900), slice(900, 1400))):
        check(out[s : s + 1], attention(q[s : s + 1], k[part], v[part], ids[:, s : s + 1])[0])


@pytest.mark.parametrize("kind", ["rows", "pages", "chosen rows", "left padding"])
@pytest.mark.parametrize("selects", [True, False])
def test_with_kvcache(inputs, kind, selects):
    q, k, v = inputs
    old, new = [300, 200], 2
    pads, page = ([0, 40] if kind == "left padding" else [0, 0]), 256 if kind == "pages" else 512
    table = torch.tensor([[5, 2], [0, 4]] if kind == "pages" else [[2], [1]], dtype=torch.int32, device=DEVICE)
    more = {"pages": dict(block_table=table), "chosen rows": dict(cache_batch_idx=table[:, 0])}.get(kind, {})
    if kind in ("rows", "left padding"):
        table = torch.tensor([[0], [1]], dtype=torch.int32, device=DEVICE)
    if kind == "left padding":
        more["cache_leftpad"] = torch.tensor(pads, dtype=torch.int32, device=DEVICE)
    caches = torch.full((2, 6, page, 2, 128), float("nan"), dtype=torch.bfloat16, device=DEVICE)
    for s, count in enumerate(old):
        for t in range(count):
            place = t + pads[s]
            caches[:, table[s, place // page], place % page] = torch.stack((k[500 * s + t], v[500 * s + t]))
    fresh = [torch.stack([tensor[500 * s + count : 500 * s + count + new] for s, count in enumerate(old)]) for tensor in (k, v)]
    ids = torch.tensor([[0, 2, -1, 4], [3, 1, 1, 4]], dtype=torch.int32, device=DEVICE)
    ids = ids.expand(2, new, 2, 4).transpose(1, 2).contiguous()  # [batch, kv_heads, queries, 4]
    queries = q[: 2 * new].unflatten(0, (2, new))
    out, lse = infllmv2_attn_with_kvcache(
        queries, *caches, *fresh, cache_seqlens=torch.tensor([a + b for a, b in zip(old, pads)], dtype=torch.int32,
                                                                       device=DEVICE),
        causal=True, topk_idx=ids if selects else None, return_softmax_lse=True, **more)
    for s, count in enumerate(old):
        keys = slice(500 * s, 500 * s + count + new)
        wanted, wanted_lse = attention(queries[s], k[keys], v[keys], ids[s] if selects else None)
        check(out[s], wanted)
        torch.testing.assert_close(lse[s], wanted_lse, rtol=1e-3, atol=1e-3)


def test_pooling_of_one_sequence():
    score, cached = torch.randn(2, 70, 20, dtype=torch.bfloat16), torch.tensor([300], dtype=torch.int32)
    lengths = cumulative(70).cpu(), cumulative(20).cpu()
    wanted = max_pooling_1d_varlen(score, *lengths, cached, 70, 20, local_blocks=1, init_blocks=1)
    assert torch.equal(max_pooling_1d(score, 300, local_blocks=1, init_blocks=1), wanted)
    assert wanted.shape == (2, 70, 6) and wanted[0, 0].isinf().tolist() == [True, False, False, True, True, False]
    assert wanted[1, 5, 2] == score[1, 5, 7:12].max()


def test_patch():
    home = sys.modules["published"] = types.ModuleType("published")
    home.compressed_attention = None
    model = torch.nn.Sequential(type("MiniCPM", (torch.nn.Module,), {"__module__": "published"})())
    winnow.infllm_v2.patch(model)
    assert home.compressed_attention is winnow.infllm_v2.compressed_attention
    with pytest.raises(winnow.InvalidError, match="the code of Sequential has no compressed_attention"):
        winnow.infllm_v2.patch(torch.nn.Sequential())


def test_errors_are_sentences(inputs):
    q, k, v = (tensor[:70] for tensor in inputs)
    cu = cumulative(70)
    with pytest.raises(winnow.UnsupportedError, match="does not compute softcap and attention that is not causal"):
        infllmv2_attn_varlen_func(q, k, v, cu, cu, 70, 70, softcap=2.0)
    with pytest.raises(winnow.UnsupportedError, match="has no gradient"):
        infllmv2_attn_varlen_func(q.clone().requires_grad_(), k, v, cu, cu, 70, 70, causal=True)
