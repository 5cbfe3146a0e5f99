"""winnow.torch on the CPU: answers, opcheck, torch.compile and torch.export."""

import io
import os
import tempfile
import time

_cache = tempfile.TemporaryDirectory()
os.environ["WINNOW_CACHE_DIR"] = _cache.name

import pytest  # noqa: E402
import torch  # noqa: E402
from torch._subclasses import FakeTensorMode  # noqa: E402

import winnow  # noqa: E402
from small_torch import METHOD, SPEC, TOKENS, kept_rows, paged, tensors  # noqa: E402
from winnow.torch import append_rows, attention_with_kvcache, merge, prepare, sparse_attention  # noqa: E402


def dense(q, k, v):
    """out and lse of causal attention, in fp64."""
    q, k, v = (tensor.double().transpose(0, 1) for tensor in (q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)))
    logits = q @ k.transpose(1, 2) / 8
    logits.masked_fill_(torch.ones(logits.shape[1:]).tril(k.shape[1] - q.shape[1]) == 0, -torch.inf)
    return (logits.softmax(-1) @ v).transpose(0, 1), logits.logsumexp(-1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_answers(dtype):
    q, k, v, lengths = tensors(dtype)
    out, lse = sparse_attention(q, k, v, lengths, method="dense", return_lse=True)
    wanted, wanted_lse = dense(q, k, v)
    torch.testing.assert_close(out.double(), wanted, atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(lse.double(), wanted_lse, atol=1e-2, rtol=1e-2)
    everything = sparse_attention(q, k, v, lengths, method=METHOD, **{**SPEC, "topk": 6})  # all blocks
    torch.testing.assert_close(everything.double(), wanted, atol=2e-2, rtol=2e-2)
    some, ids = sparse_attention(q, k, v, lengths, return_ids=True, method=METHOD, **SPEC)
    assert ids.shape == (2, TOKENS, 4) and (ids[:, -1] >= 0).all()
    assert not torch.equal(some, everything)


def test_what_is_prepared_is_found():
    spec = dict(SPEC, topk=5)
    prepare(METHOD, device="cpu", heads=4, kv_heads=2, head_dim=64, dtype=torch.bfloat16, **spec)
    before = winnow.torch._program.cache_info().misses
    sparse_attention(*tensors(), method=METHOD, **spec)
    assert winnow.torch._program.cache_info().misses == before


def test_inputs_may_be_views_and_want_gradients():
    q, k, v, lengths = tensors()
    by_head = q.transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    torch.testing.assert_close(sparse_attention(by_head, k, v, lengths, method=METHOD, **SPEC).detach(),
                               sparse_attention(q, k, v, lengths, method=METHOD, **SPEC), rtol=0, atol=0)


def selected(ids, keys, positions, block=16):
    """Which keys each query head of a group of two attends to: [heads, tokens, keys]."""
    wanted = (torch.arange(keys) // block == ids[..., None]).any(-2).repeat_interleave(2, 0)
    return wanted & (torch.arange(keys) <= positions[:, None])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", [METHOD, "dense"])
def test_gradients(dtype, method):
    q, k, v, lengths = tensors(dtype)
    leaves = [tensor.requires_grad_() for tensor in (q, k, v)]
    spec = SPEC if method == METHOD else {}
    out, ids = sparse_attention(*leaves, lengths, return_ids=True, method=method, **spec)
    dout = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    out.backward(dout)
    exact = [tensor.detach().double().requires_grad_() for tensor in leaves]
    by_head = [exact[0].transpose(0, 1), *(x.repeat_interleave(2, 1).transpose(0, 1) for x in exact[1:])]
    logits = by_head[0] @ by_head[1].transpose(1, 2) / 8
    seen = torch.ones(4, TOKENS, TOKENS).tril().bool()
    if method == METHOD:  # the selection is kept, not made anew, and carries no gradient
        seen = selected(ids, TOKENS, torch.arange(TOKENS))
    weights = logits.masked_fill(~seen, -torch.inf).softmax(-1)
    ((weights @ by_head[2]).transpose(0, 1) * dout.double()).sum().backward()
    tolerance = dict(atol=3e-2, rtol=3e-2) if dtype == torch.bfloat16 else dict(atol=5e-3, rtol=5e-3)
    for got, wanted in zip(leaves, exact):
        torch.testing.assert_close(got.grad.double(), wanted.grad, **tolerance)


def test_what_has_no_gradient_says_so():
    q, k, v, lengths = tensors()
    q.requires_grad_()
    out, lse, ids = sparse_attention(q, k, v, lengths, return_lse=True, return_ids=True, method=METHOD, **SPEC)
    assert out.requires_grad and not lse.requires_grad and not ids.requires_grad
    with torch.no_grad():  # its program is the one without
        assert not sparse_attention(q, k, v, lengths, method=METHOD, **SPEC).requires_grad
    text = prepare(METHOD, device="cpu", heads=4, kv_heads=2, head_dim=64, dtype="bf16", **SPEC)
    out, _, _ = torch.ops.winnow.sparse_attention(q, k, v, lengths, lengths, TOKENS, TOKENS, text)
    with pytest.raises(winnow.InvalidError, match="prepare it with `backward` set"):
        out.sum().backward()


def test_an_eager_step_is_the_operator():
    q, k, v, _ = tensors()
    k_cache, v_cache, table = paged(k, v)
    lens = (torch.tensor([0, 1], dtype=torch.int32), torch.tensor([TOKENS], dtype=torch.int32), table, 1, TOKENS)

    def step(query):
        named = dict(zip(("cu_seqlens_q", "cache_seqlens", "page_table", "max_q", "max_k"), lens))
        return attention_with_kvcache(query, k_cache, v_cache, **named, method=METHOD, **SPEC)

    wanted, text = torch.empty(1, 4, 64, dtype=torch.bfloat16), winnow.torch._text_for(q, k, v, METHOD, True, SPEC)
    torch.ops.winnow.attention_with_kvcache(q[-1:], k_cache, v_cache, [], *lens, text, wanted, None, None, None)
    assert torch.equal(step(q[-1:]), wanted) and torch.equal(step(q[-1:].clone().requires_grad_()), wanted)
    with torch.profiler.profile(acc_events=True) as profile:  # which is where operators are looked for
        assert torch.equal(step(q[-1:]), wanted)
    assert "winnow::attention_with_kvcache" in [event.key for event in profile.key_averages()]
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert step(mode.from_tensor(q[-1:])).shape == wanted.shape
    with pytest.raises(winnow.InvalidError, match="a Spec is given, and topk beside it"):
        attention_with_kvcache(q, k_cache, v_cache, cu_seqlens_q=lens[0], cache_seqlens=lens[1], page_table=table, max_q=1,
                               max_k=TOKENS, method=winnow.Spec(METHOD, heads=4, kv_heads=2), topk=4)


def test_what_is_not_eager_is_the_operator():
    q, k, v, lengths = tensors()

    def call(*given):
        return sparse_attention(*given, lengths, method=METHOD, **SPEC)

    eager = call(q, k, v)
    with torch.profiler.profile(acc_events=True) as profile:
        assert torch.equal(call(q, k, v), eager)
    assert "winnow::sparse_attention" in [event.key for event in profile.key_averages()]
    assert call(q, k, v.clone().requires_grad_()).requires_grad


def test_eager_steps_of_several_programs():
    """A call finds its program again by what it is called with, whatever was called before."""
    one = torch.tensor([0, 1], dtype=torch.int32)

    def step(q, k, v, params, method=METHOD, **changed):
        k_cache, v_cache, table = paged(k, v)
        return attention_with_kvcache(q[-1:], k_cache, v_cache, cu_seqlens_q=one, page_table=table, max_q=1, max_k=len(k), method=method,
                                      cache_seqlens=torch.tensor([len(k)], dtype=torch.int32), **{**SPEC, "params": params, **changed})

    def wanted(q, k, v, params, **changed):
        return sparse_attention(q[-1:], k, v, one, torch.tensor([0, len(k)], dtype=torch.int32), max_q=1, max_k=len(k), method=METHOD,
                                **{**SPEC, "params": params, **changed})

    bf16, fp16, params = tensors()[:3], tensors(torch.float16)[:3], dict(SPEC["params"])
    wide = (torch.randn(TOKENS, 8, 64).bfloat16(), *bf16[1:])  # more heads: its program is told by the tensors alone
    for _ in range(2):
        for given in (bf16, wide, fp16, bf16):
            torch.testing.assert_close(step(*given, params), wanted(*given, params), rtol=2e-2, atol=2e-2)
        torch.testing.assert_close(step(*bf16, params, topk=3), wanted(*bf16, params, topk=3), rtol=2e-2, atol=2e-2)
    params["local"] = 1  # of the same object, which the call before was made with
    torch.testing.assert_close(step(*bf16, params, topk=3), wanted(*bf16, params, topk=3), rtol=2e-2, atol=2e-2)
    for changed in range(2 * winnow.torch._MOST_RECENT):
        step(*bf16, params, expected_tokens=changed)
    assert len(winnow.torch._recent) == winnow.torch._MOST_RECENT
    with pytest.raises(winnow.InvalidError, match="seq_k is int64, not int32") as refused:
        k_cache, v_cache, table = paged(*bf16[1:])
        attention_with_kvcache(bf16[0][-1:], k_cache, v_cache, cu_seqlens_q=one, page_table=table, max_q=1, max_k=TOKENS, method=METHOD,
                               cache_seqlens=torch.tensor([TOKENS]), **SPEC)
    assert refused.value.__context__ is None
    with pytest.raises(winnow.InvalidError, match="dtype is torch.float32: take 'bf16' or 'fp16'"):
        step(*(tensor.float() for tensor in bf16), params)
    with pytest.raises(winnow.InvalidError, match="3 query heads cannot share 2 key"):
        step(torch.zeros(1, 3, 64, dtype=torch.bfloat16), *bf16[1:], params)


def test_the_time_of_a_launch():
    """Three times the bars of test_cuda.py, for busy machines: a launch without queries returns before the CPU attends."""
    q, k, v, _ = tensors()
    k_cache, v_cache, table = paged(k, v)
    text = prepare(METHOD, device="cpu", heads=4, kv_heads=2, head_dim=64, paged=True, dtype="bf16", **SPEC)
    program = winnow.torch._program(text, torch.device("cpu"))
    rows = kept_rows(program.rows_layout, len(k_cache))
    none, lens, out = torch.zeros(2, dtype=torch.int32), torch.tensor([TOKENS], dtype=torch.int32), torch.empty(0, 4, 64).bfloat16()
    no_q, ids, room = q[:0], torch.empty(2, 0, 4, dtype=torch.int32), torch.empty(0, dtype=torch.uint8)

    def launch():
        program.launch(no_q, k_cache, v_cache, out, rows=rows, cu_q=none, seq_k=lens, page_table=table, max_q=1, max_k=TOKENS,
                       ids=ids, workspace=room)

    def step():
        attention_with_kvcache(no_q, k_cache, v_cache, rows, cu_seqlens_q=none, cache_seqlens=lens, page_table=table, max_q=1,
                               max_k=TOKENS, out=out, ids=ids, workspace=room, method=METHOD, **SPEC)

    def microseconds(call, rounds=2000):
        times = []
        for _ in range(rounds):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
        return sorted(times)[rounds // 2] * 1e6

    alone, eager = microseconds(launch), microseconds(step)
    print(f"without queries: Program.launch {alone:.1f} us, attention_with_kvcache {eager:.1f} us")
    assert alone < 3 * 2 and eager - alone < 3 * 6


def test_merge():
    q, k, v, _ = tensors()
    wanted, wanted_lse = dense(q[-1:], k, v)
    parts = [dense(q[-1:], k[part], v[part]) for part in (slice(0, 40), slice(40, None))]
    parts.append((torch.zeros(1, 4, 64), torch.full((4, 1), -torch.inf)))
    out, lse = merge(*zip(*parts))
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(lse, wanted_lse)
    empty, none = merge([torch.zeros(1, 4, 64)] * 2, [torch.full((4, 1), -torch.inf)] * 2)
    assert not empty.any() and (none == -torch.inf).all()


def test_opcheck():
    q, k, v, lengths = tensors()
    text = prepare(METHOD, device="cpu", heads=4, kv_heads=2, head_dim=64, dtype="bf16", **SPEC)
    torch.library.opcheck(torch.ops.winnow.sparse_attention.default, (q, k, v, lengths, lengths, TOKENS, TOKENS, text))
    text = prepare(METHOD, device="cpu", heads=4, kv_heads=2, head_dim=64, dtype="bf16", backward=True, **SPEC)
    wanting = [tensor.clone().requires_grad_() for tensor in (q, k, v)]
    torch.library.opcheck(torch.ops.winnow.sparse_attention.default, (*wanting, lengths, lengths, TOKENS, TOKENS, text))
    text = prepare(METHOD, device="cpu", heads=4, kv_heads=2, head_dim=64, dtype="bf16", paged=True, **SPEC)
    k_cache, v_cache, table = paged(k, v)
    rows = kept_rows(winnow.torch._program(text, torch.device("cpu")).rows_layout, len(k_cache))
    lens = (lengths, torch.tensor([TOKENS], dtype=torch.int32), table, TOKENS, TOKENS, text)
    torch.library.opcheck(torch.ops.winnow.append_rows.default, (k_cache, rows, *lens))
    torch.library.opcheck(torch.ops.winnow.attention_with_kvcache.default,
                          (q, k_cache, v_cache, rows, *lens, torch.zeros_like(q), None, None, None))


def layer(q, k, v, lengths):
    return sparse_attention(q * 2, k, v, lengths, method=METHOD, **SPEC) + 1


def test_compile():
    arguments = tensors()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), layer(*arguments), rtol=0, atol=0)
    longer = tensors(tokens=130)  # with a dynamic shape
    torch.testing.assert_close(compiled(*longer), layer(*longer), rtol=0, atol=0)


def test_compile_in_place():
    q, k, v, lengths = tensors()
    k_cache, v_cache, table = paged(k, v)
    lens = dict(cache_seqlens=torch.tensor([TOKENS], dtype=torch.int32), page_table=table, max_k=TOKENS, max_q=1,
                cu_seqlens_q=torch.tensor([0, 1], dtype=torch.int32))

    def step(query):
        return attention_with_kvcache(query * 2, k_cache, v_cache, **lens, method=METHOD, **SPEC) + 1

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(q[-1:]), step(q[-1:]), rtol=0, atol=0)


def test_export():
    class Layer(torch.nn.Module):
        def forward(self, *arguments):
            return layer(*arguments)

    arguments = tensors()
    exported = torch.export.export(Layer(), arguments)
    assert "winnow.sparse_attention" in str(exported.graph)
    torch.testing.assert_close(exported.module()(*arguments), layer(*arguments), rtol=0, atol=0)


def saved_and_loaded(exported):
    """A module from the bytes of an exported program, as a process that has prepared nothing reads them."""
    file = io.BytesIO()
    torch.export.save(exported, file)
    winnow.torch._program.cache_clear()
    file.seek(0)
    return torch.export.load(file).module()


def test_an_exported_program_is_saved_and_loaded():
    class Layer(torch.nn.Module):
        def forward(self, *arguments):
            return layer(*arguments)

    arguments = tensors()
    loaded = saved_and_loaded(torch.export.export(Layer(), arguments))
    before = winnow.torch._program.cache_info().misses
    assert torch.equal(loaded(*arguments), layer(*arguments))
    assert winnow.torch._program.cache_info().misses == before + 1  # of the text in the file and of the call: one program
    other = (*arguments[:2], -arguments[2], arguments[3])
    assert torch.equal(loaded(*other), layer(*other)) and not torch.equal(loaded(*other), loaded(*arguments))


def test_export_of_a_step_over_a_cache():
    """Its output and the rows that it appends are written in place, also when saved, loaded or made functional in between."""
    q, k, v, _ = tensors()
    k_cache, v_cache, table = paged(k, v)
    text = prepare(METHOD, device="cpu", heads=4, kv_heads=2, head_dim=64, paged=True, dtype="bf16", **SPEC)
    layout = winnow.torch._program(text, torch.device("cpu")).rows_layout

    class Step(torch.nn.Module):
        def forward(self, query, k_cache, v_cache, rows, queries, keys, table, out):
            attention_with_kvcache(query * 2, k_cache, v_cache, rows, cu_seqlens_q=queries, cache_seqlens=keys, page_table=table,
                                   max_q=5, max_k=TOKENS, out=out, method=METHOD, **SPEC)
            return out + 1

    def arguments():
        return (q[-5:], k_cache, v_cache, kept_rows(layout, len(k_cache)), torch.tensor([0, 5], dtype=torch.int32),
                torch.tensor([TOKENS], dtype=torch.int32), table, torch.zeros(5, 4, 64, dtype=q.dtype))

    exported = torch.export.export(Step(), arguments())
    assert "winnow.attention_with_kvcache" in str(exported.graph)
    wanted = arguments()
    result = Step()(*wanted)
    assert wanted[-1].any() and all(row.any() for row in wanted[3])
    for module in (exported.module(), saved_and_loaded(exported), saved_and_loaded(exported.run_decompositions())):
        given = arguments()
        assert torch.equal(module(*given), result)
        assert torch.equal(given[-1], wanted[-1])  # what was written in place
        for got, row in zip(given[3], wanted[3]):
            assert torch.equal(got, row)


def test_errors_are_sentences():
    q, k, v, lengths = tensors()
    with pytest.raises(winnow.InvalidError, match="cu_q is int64, not int32"):
        sparse_attention(q, k, v, lengths.long(), method=METHOD, **SPEC)
    with pytest.raises(winnow.InvalidError, match="dtype is torch.float32: take 'bf16' or 'fp16'"):
        sparse_attention(q.float(), k.float(), v.float(), lengths, method=METHOD, **SPEC)
