"""winnow.torch over caches of pages, on the CPU: fp8, and new keys that it writes itself."""

import os
import tempfile

_cache = tempfile.TemporaryDirectory()
os.environ["WINNOW_CACHE_DIR"] = _cache.name

import pytest  # noqa: E402
import torch  # noqa: E402

import winnow  # noqa: E402
from small_torch import METHOD, SPEC, TOKENS, Batch, kept_rows, paged, tensors  # noqa: E402
from winnow.torch import append_rows, attention_with_kvcache, prepare, sparse_attention  # noqa: E402


def test_a_paged_cache():
    q, k, v, lengths = tensors()
    whole = sparse_attention(q, k, v, lengths, method=METHOD, **SPEC)
    k_cache, v_cache, table = paged(k, v)
    text = prepare(METHOD, device="cpu", heads=4, kv_heads=2, head_dim=64, paged=True, dtype="bf16", **SPEC)
    rows = kept_rows(winnow.torch._program(text, torch.device("cpu")).rows_layout, len(k_cache))
    lens = dict(cache_seqlens=torch.tensor([TOKENS], dtype=torch.int32), page_table=table, max_k=TOKENS)
    append_rows(k_cache, rows, cu_seqlens_q=lengths, max_q=TOKENS, spec=text, **lens)
    one = torch.tensor([0, 1], dtype=torch.int32)
    out = torch.empty(1, 4, 64, dtype=torch.bfloat16)
    got = attention_with_kvcache(q[-1:], k_cache, v_cache, rows, cu_seqlens_q=one, max_q=1, out=out, **lens, method=METHOD, **SPEC)
    assert got is out
    torch.testing.assert_close(out, whole[-1:], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("by_slots", [False, True])
@pytest.mark.parametrize("given", [dict(), dict(begin=(5, 7)), dict(dtype=torch.float8_e4m3fn)])
def test_new_keys_are_written(given, by_slots):
    batch = Batch(**given)
    wanted = batch.step(batch.written, max_q=3, max_k=64)
    assert wanted[:5].abs().sum() > 0
    caches = [held.clone() for held in batch.held]
    slots = dict(slot_mapping=batch.slots) if by_slots else {}
    assert torch.equal(batch.step(caches, k=batch.k, v=batch.v, max_q=3, max_k=64, **slots)[:5], wanted[:5])
    for cache, written in zip(caches, batch.written):
        assert torch.equal(cache.float(), written.float())
    # Without bounds the launch is one of prefill or decode for more tokens than there are; the answer is the same.
    torch.testing.assert_close(batch.step(caches)[:5], wanted[:5], rtol=2e-2, atol=2e-2)


def test_new_keys_of_fp8_are_scaled_and_saturate():
    batch = Batch(dtype=torch.float8_e4m3fn)
    batch.k[0, 0, 0] = 1e4
    descale = torch.tensor([0.5, 2.0])
    caches = [held.clone() for held in batch.held]
    batch.step(caches, k=batch.k, v=batch.v, max_q=3, max_k=64, k_descale=descale, v_descale=descale)
    page, place = divmod(int(batch.slots[0]), 16)
    stored = caches[0][page, place].float()
    assert stored[0, 0] == 448
    torch.testing.assert_close((stored * descale[:, None])[:, 1:], batch.k[0, :, 1:].float(), rtol=0.07, atol=2e-2)


def test_new_keys_of_a_model_that_trains():
    """The cache is no part of a graph, and may be a view; its bits may be uint16."""
    batch = Batch()
    wanted = batch.step(batch.written, max_q=3, max_k=64)
    caches = torch.stack(batch.held).unbind()
    k, v = batch.k.clone().requires_grad_(), batch.v.clone().requires_grad_()
    assert torch.equal(batch.step(caches, k=k, v=v, max_q=3, max_k=64)[:5], wanted[:5])
    assert not any(cache.requires_grad for cache in caches)
    bits = [held.clone().view(torch.uint16) for held in batch.held]
    assert torch.equal(batch.step(bits, k=k, v=v, max_q=3, max_k=64)[:5], wanted[:5])


def test_keys_that_no_slot_is_for_are_not_written():
    batch = Batch()
    caches = [held.clone() for held in batch.held]
    batch.step(caches, k=batch.k, v=batch.v, slot_mapping=torch.full_like(batch.slots, -1), max_q=3, max_k=64)
    assert all(torch.equal(cache, held) for cache, held in zip(caches, batch.held))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_new_keys_are_written_in_compiled_code(dtype):
    batch = Batch(dtype=dtype)
    caches = [held.clone() for held in batch.held]

    @torch.compile(backend="aot_eager", fullgraph=True)
    def step(q, k, v, k_cache, v_cache, named):
        return attention_with_kvcache(q, k_cache, v_cache, k=k * 1, v=v * 1, max_q=3, max_k=64, **named, method=METHOD, **SPEC)

    named = {name: value for name, value in batch.named.items() if isinstance(value, torch.Tensor)}
    for tensor in (batch.q, batch.k, batch.v):  # tokens; the batch below
        torch._dynamo.mark_dynamic(tensor, 0)
    for tensor in (named["cache_seqlens"], named["page_table"], named["cu_seqlens_q"]):
        torch._dynamo.maybe_mark_dynamic(tensor, 0)
    out = step(batch.q, batch.k, batch.v, *caches, named)
    assert torch.equal(out[:5], batch.step(batch.written, max_q=3, max_k=64)[:5])
    assert all(torch.equal(cache.float(), written.float()) for cache, written in zip(caches, batch.written))


@pytest.mark.parametrize("given, words", [
    (dict(k=None), "give k and v, or none of the three"),
    (dict(v=torch.zeros(7, 2, 32)), r"v has shape \(7, 2, 32\), not \(7, 2, 64\)"),
    (dict(slot_mapping=torch.zeros(5).int()), r"slot_mapping has shape \(5,\) and is torch.int32, not \(7,\)"),
    (dict(slot_mapping=torch.ones(7).bool()), "is torch.bool, not .* of int32 or int64: a slot for each token of k"),
    (dict(k_cache=torch.zeros(10, 16, 2, 64)), "k_cache is torch.float32, q torch.bfloat16: a cache has the dtype of q"),
])
def test_new_keys_that_are_refused(given, words):
    batch = Batch()
    caches = [given.pop("k_cache", batch.held[0]), batch.held[1]]
    held = [cache.clone() for cache in caches]
    with pytest.raises(winnow.InvalidError, match=words):
        batch.step(caches, **{**dict(k=batch.k, v=batch.v, max_q=3, max_k=64), **given})
    assert all(map(torch.equal, caches, held))


def test_a_call_without_its_program_writes_nothing(monkeypatch):
    def refuse(*_, **__):
        raise winnow.NotReadyError("not prepared")

    batch = Batch()
    caches = [held.clone() for held in batch.held]
    monkeypatch.setattr(winnow.torch, "_program", refuse)
    with pytest.raises(winnow.NotReadyError):
        batch.step(caches, k=batch.k, v=batch.v, max_q=3, max_k=64, expected_tokens=77)  # a spec of its own
    assert all(map(torch.equal, caches, batch.held))


def test_nothing_is_prepared_in_a_capture(monkeypatch):
    """Where the stream captures, a program that was not prepared is refused before anything touches the capture."""
    asked = []

    class Known(Exception):
        pass

    def find(spec, *, device):
        asked.append(device)
        raise Known

    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    monkeypatch.setattr(winnow.torch._engine, "find", find)
    monkeypatch.setattr(winnow.torch._engine, "prepare", lambda *_, **__: pytest.fail("prepared in a capture"))
    text = winnow.torch._text("dense", dict(heads=2, kv_heads=2))
    with pytest.raises(Known):
        winnow.torch._program(text, torch.device("cuda", 0))
    assert asked == [0]


@pytest.mark.parametrize("as_bits", [False, True])
def test_a_cache_of_fp8(as_bits):
    """Steps over stored keys are those over the true ones, eagerly and by the operator; the scales count."""
    q, *stored, lengths = tensors()
    descale = [torch.tensor([0.5, 2.0]), torch.tensor([4.0, 0.25])]
    stored = [tensor.to(torch.float8_e4m3fn) for tensor in stored]
    true = [tensor.bfloat16() * scale[:, None].bfloat16() for tensor, scale in zip(stored, descale)]
    one = torch.tensor([0, 1], dtype=torch.int32)

    def step(k, v, **more):
        k_cache, v_cache, table = paged(k, v)
        lens = dict(cache_seqlens=torch.tensor([TOKENS], dtype=torch.int32), page_table=table, max_k=TOKENS)
        if as_bits and more:
            k_cache, v_cache = (cache.view(torch.uint8) for cache in (k_cache, v_cache))
        spec = dict(SPEC, kv_dtype="fp8_e4m3") if as_bits and more else SPEC
        text = winnow.torch.spec_text(q, k_cache, v_cache, method=METHOD, **spec)
        rows = kept_rows(winnow.torch._program(text, torch.device("cpu")).rows_layout, len(k_cache))
        append_rows(k_cache, rows, cu_seqlens_q=lengths, max_q=TOKENS, spec=text, k_descale=more.get("k_descale"), **lens)
        named = dict(lens, cu_seqlens_q=one, max_q=1, method=METHOD, **spec, **more)
        out = attention_with_kvcache(q[-1:], k_cache, v_cache, rows, **named)
        with torch.profiler.profile(acc_events=True):
            assert torch.equal(attention_with_kvcache(q[-1:], k_cache, v_cache, rows, **named), out)
        return out, rows

    wanted, wanted_rows = step(*true)
    got, rows = step(*stored, k_descale=descale[0], v_descale=descale[1])
    torch.testing.assert_close(got, wanted, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(rows, wanted_rows, rtol=1e-2, atol=1e-2)
    other, _ = step(*stored, k_descale=descale[0], v_descale=4 * descale[1])
    torch.testing.assert_close(other, 4 * wanted, rtol=2e-2, atol=8e-2)
