"""Answers of CPU programs against the fp64 formulas: packed, ragged, strided, paged, by phases, with kept rows."""

import math

import numpy as np
import pytest
import reference

import winnow
from small import SMALL

HEADS, KV_HEADS, DIM, BLOCK, TOPK = (SMALL[name] for name in ("heads", "kv_heads", "head_dim", "block", "topk"))
SCALE = DIM**-0.5
PARAMS = {name: SMALL["params"][name] for name in ("window", "stride", "coarse_window", "coarse_stride")}


def draw(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float16)


def lengths(*counts):
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int32)


def sequence(tokens, keys, seed=0):
    """q, k and v of one sequence."""
    return (draw(tokens, HEADS, DIM, seed=seed), draw(keys, KV_HEADS, DIM, seed=seed + 1),
            draw(keys, KV_HEADS, DIM, seed=seed + 2))


def outputs(tokens):
    return (np.full((tokens, HEADS, DIM), np.nan, np.float16), np.full((HEADS, tokens), np.nan, np.float32),
            np.full((KV_HEADS, tokens, TOPK), -7, np.int32))


def check_selection(ids, q, k):
    """Ids are those of the formulas, or differ where scores are equal within rounding."""
    scores = reference.block_scores(q, k, block=BLOCK, scale=SCALE, **PARAMS)
    wanted = reference.select(scores, history=len(k) - len(q), block=BLOCK, topk=TOPK, init=1, local=2)
    for g, t in np.ndindex(*wanted.shape[:2]):
        missed = set(wanted[g, t]) - set(ids[g, t])
        strange = set(ids[g, t]) - set(wanted[g, t])
        assert len(missed) == len(strange)
        for one, other in zip(sorted(missed), sorted(strange)):
            assert scores[g, t, one] == pytest.approx(scores[g, t, other], rel=1e-2), (g, t, ids[g, t], wanted[g, t])
        present = [i for i in ids[g, t] if i >= 0]
        assert present == sorted(set(present)) and list(ids[g, t][len(present) :]) == [-1] * (TOPK - len(present))


def check_attention(out, lse, q, k, v, ids=None):
    wanted, wanted_lse = reference.attend(q, k, v, SCALE, ids, BLOCK)
    np.testing.assert_allclose(out.astype(np.float64), wanted, atol=4e-3, rtol=4e-3)
    np.testing.assert_allclose(lse, wanted_lse, atol=2e-3, rtol=2e-3)


def test_dense(dense):
    q, k, v = sequence(40, 70)
    out, lse, _ = outputs(40)
    dense.launch(q, k, v, out, lse=lse, cu_q=lengths(40), cu_k=lengths(70), max_q=40, max_k=70)
    assert dense.select_heads == 0
    check_attention(out, lse, q, k, v)


def test_sparse_of_a_ragged_batch(packed):
    counts = [(150, 150), (1, 97), (30, 203)]  # of queries and keys
    parts = [sequence(*count, seed=10 * i) for i, count in enumerate(counts)]
    q, k, v = (np.concatenate(tensors) for tensors in zip(*parts))
    out, lse, ids = outputs(len(q))
    cu_q, cu_k = (lengths(*of_all) for of_all in zip(*counts))
    packed.launch(q, k, v, out, lse=lse, ids=ids, cu_q=cu_q, cu_k=cu_k, max_q=150, max_k=203)
    for s, part in enumerate(parts):
        here = slice(cu_q[s], cu_q[s + 1])
        check_selection(ids[:, here], part[0], part[1])
        check_attention(out[here], lse[:, here], *part, ids[:, here])


def test_gradients_of_a_ragged_batch():
    program = winnow.prepare("infllm_v2", device="cpu", backward=True, **SMALL)
    counts = [(150, 150), (0, 40), (30, 203)]
    parts = [sequence(*count, seed=10 * i) for i, count in enumerate(counts)]
    q, k, v = (np.concatenate(tensors) for tensors in zip(*parts))
    out, lse, ids = outputs(len(q))
    cu_q, cu_k = (lengths(*of_all) for of_all in zip(*counts))
    shape = dict(cu_q=cu_q, cu_k=cu_k, max_q=150, max_k=203)
    program.launch(q, k, v, out, lse=lse, ids=ids, **shape)
    dout = draw(*out.shape, seed=5)
    given = (ids.copy(), out.copy())
    found = [np.full_like(tensor, np.nan) for tensor in (q, k, v)]
    assert program.backward_workspace_size(batch=3, total_q=len(q), total_k=len(k), max_q=150, max_k=203) == 0
    for tensor in (out, lse, ids):
        tensor.flags.writeable = False
    names = dict(zip(("dq", "dk", "dv"), found))
    assert program.rung("backward") == "default" and program.time("backward") is None
    program.launch_backward(q, k, v, out, lse=lse, ids=ids, dout=dout, **names, **shape)
    assert np.array_equal(ids, given[0]) and np.array_equal(out, given[1])
    for s, part in enumerate(parts):
        rows, keys = slice(cu_q[s], cu_q[s + 1]), slice(cu_k[s], cu_k[s + 1])
        wanted = reference.gradients(*part, dout[rows], SCALE, ids[:, rows], BLOCK)
        for got, exact, here in zip(found, wanted, (rows, keys, keys)):
            np.testing.assert_allclose(got[here].astype(np.float64), exact, atol=4e-3, rtol=4e-3)
    assert not found[1][cu_k[1] : cu_k[2]].any()  # nobody attended to them
    again = [np.full_like(tensor, np.nan) for tensor in (q, k, v)]
    names = dict(zip(("dq", "dk", "dv"), again))
    program.launch_backward(q, k, v, out, lse=lse, ids=ids, dout=dout, **names, **shape)
    assert all(np.array_equal(one, other) for one, other in zip(found, again))


def test_gradients_are_refused_in_words(packed):
    q, k, v = sequence(20, 20)
    out, lse, ids = outputs(20)
    shape = dict(cu_q=lengths(20), cu_k=lengths(20), max_q=20, max_k=20)
    grads = dict(dout=out, dq=q.copy(), dk=k.copy(), dv=v.copy())
    with pytest.raises(winnow.InvalidError, match="prepare it with `backward` set"):
        packed.launch_backward(q, k, v, out, lse=lse, ids=ids, **grads, **shape)
    program = winnow.prepare("infllm_v2", device="cpu", backward=True, **SMALL)
    with pytest.raises(winnow.InvalidError, match="lse is null"):
        program.launch_backward(q, k, v, out, ids=ids, **grads, **shape)
    with pytest.raises(winnow.InvalidError, match="dk has shape"):
        program.launch_backward(q, k, v, out, lse=lse, ids=ids, **{**grads, "dk": k[:19].copy()}, **shape)
    with pytest.raises(TypeError, match="launch_backward has no argument 'page_table'"):
        program.launch_backward(q, k, v, out, lse=lse, ids=ids, page_table=ids, **grads, **shape)
    with pytest.raises(TypeError, match="launch has no argument 'dout'"):
        program.launch(q, k, v, out, dout=out, **shape)
    with pytest.raises(winnow.InvalidError, match="backward is for packed tensors"):
        winnow.prepare("infllm_v2", device="cpu", backward=True, paged=True, **SMALL)


def test_bf16_by_its_bits(packed):
    program = winnow.prepare(packed.spec, dtype="bf16", device="cpu")
    bits = [(tensor.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16) for tensor in sequence(80, 80)]
    q, k, v = ((tensor.astype(np.uint32) << 16).view(np.float32) for tensor in bits)
    out, ids = np.empty((80, HEADS, DIM), np.uint16), outputs(80)[2]
    program.launch(*bits, out, ids=ids, cu_q=lengths(80), cu_k=lengths(80), max_q=80, max_k=80)
    wanted, _ = reference.attend(q, k, v, SCALE, ids, BLOCK)
    got = (out.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_allclose(got, wanted, atol=2e-2, rtol=2e-2)


def test_phases_and_ids_in_and_out(packed):
    q, k, v = sequence(90, 90)
    lens = dict(cu_q=lengths(90), cu_k=lengths(90), max_q=90, max_k=90)
    whole, lse, ids = outputs(90)
    packed.launch(q, k, v, whole, lse=lse, ids=ids, **lens)
    selected = outputs(90)[2]
    packed.launch(q, k, ids=selected, phase="select", **lens)
    np.testing.assert_array_equal(selected, ids)
    out, lse2, _ = outputs(90)
    packed.launch(q, k, v, out, lse=lse2, ids=selected, phase="attend", **lens)
    np.testing.assert_array_equal(out, whole)
    # Other ids: every token attends to block 0 alone, given twice.
    given = np.full_like(ids, -1)
    given[:, :, 1:3] = 0
    given.flags.writeable = False  # they are read alone
    packed.launch(q, k, v, out, lse=lse2, ids=given, phase="attend", **lens)
    check_attention(out, lse2, q, k, v, given)


def test_ids_may_be_left_out_on_the_cpu(packed):
    q, k, v = sequence(60, 60)
    lens = dict(cu_q=lengths(60), cu_k=lengths(60), max_q=60, max_k=60)
    (with_ids, _, ids), (without, _, _) = outputs(60), outputs(60)
    packed.launch(q, k, v, with_ids, ids=ids, **lens)
    packed.launch(q, k, v, without, **lens)
    np.testing.assert_array_equal(with_ids, without)


def test_strides(packed, paged):
    q, k, v = sequence(50, 75)
    lens = dict(cu_q=lengths(50), cu_k=lengths(75), max_q=50, max_k=75)
    wanted, wanted_lse, wanted_ids = outputs(50)
    packed.launch(q, k, v, wanted, lse=wanted_lse, ids=wanted_ids, **lens)
    both = np.concatenate((k, v), axis=2)  # K and V as halves of one row, as vLLM has them
    by_head = np.ascontiguousarray(q.transpose(1, 0, 2)).transpose(1, 0, 2)  # as transformers has them
    wide = np.full((50, HEADS, 2 * DIM), np.nan, np.float16)
    _, lse, ids = outputs(50)
    paged.launch(by_head, both[:, :, :DIM], both[:, :, DIM:], wide[:, :, DIM:], lse=lse, ids=ids, **lens)
    np.testing.assert_array_equal(wide[:, :, DIM:], wanted)
    np.testing.assert_array_equal(ids, wanted_ids)
    assert np.isnan(wide[:, :, :DIM]).all()


def in_pages(sequences, page, seed=3, skip=0):
    """Sequences of rows in shuffled pages, each `skip` tokens into its first; what is unused is NaN. Pages and table."""
    counts = [math.ceil((len(rows) + skip) / page) for rows in sequences]
    order = np.random.default_rng(seed).permutation(sum(counts) + 2).astype(np.int32)
    pages = np.full((len(order), page, *sequences[0].shape[1:]), np.nan, np.float16)
    table = np.full((len(sequences), max(counts) + 1), 2**30, np.int32)
    taken = 0
    for s, rows in enumerate(sequences):
        table[s, : counts[s]] = order[taken : taken + counts[s]]
        for token, row in enumerate(rows, start=skip):
            pages[order[taken + token // page], token % page] = row
        taken += counts[s]
    return pages, table


@pytest.mark.parametrize("page", [1, 16, 24])
def test_pages(paged, page):
    counts = [(3, 60), (1, 131)]
    parts = [sequence(*count, seed=20 * i) for i, count in enumerate(counts)]
    q = np.concatenate([part[0] for part in parts])
    (k_pages, table), (v_pages, _) = (in_pages([part[i] for part in parts], page) for i in (1, 2))
    out, lse, ids = outputs(4)
    paged.launch(q, k_pages, v_pages, out, lse=lse, ids=ids, cu_q=lengths(3, 1), page_table=table,
                 seq_k=np.array([60, 131], np.int32), max_q=3, max_k=131)
    for here, part in zip((slice(0, 3), slice(3, 4)), parts):
        check_selection(ids[:, here], part[0], part[1])
        check_attention(out[here], lse[:, here], *part, ids[:, here])


def test_left_padding(paged):
    q, k, v = sequence(5, 70)
    (k_pages, table), (v_pages, _) = (in_pages([rows], 80, skip=9) for rows in (k, v))
    out, lse, ids = outputs(5)
    paged.launch(q, k_pages, v_pages, out, lse=lse, ids=ids, cu_q=lengths(5), page_table=table, max_q=5, max_k=80,
                 seq_k=np.array([70], np.int32), k_begin=np.array([9], np.int32))
    check_attention(out, lse, q, k, v, ids)


def test_rows_that_the_host_keeps(paged):
    """Keys appended in steps, then a launch over the kept rows: as one that makes its own."""
    q, k, v = sequence(1, 100)
    page = 32
    (k_pages, table), (v_pages, _) = (in_pages([rows], page) for rows in (k, v))
    layout = paged.rows_layout
    assert layout == ((PARAMS["window"], PARAMS["stride"]), (PARAMS["coarse_window"], PARAMS["coarse_stride"]))[: len(layout)]
    rows = [np.full((len(k_pages), page // stride, KV_HEADS, DIM), np.nan, np.float16) for _, stride in layout]
    for before, seen in ((0, 50), (50, 99)):
        paged.launch(None, k_pages, cu_q=lengths(seen - before), seq_k=np.array([seen], np.int32), page_table=table,
                     rows=rows, max_q=seen - before, max_k=100, phase="append")
    lens = dict(cu_q=lengths(1), seq_k=np.array([100], np.int32), page_table=table, max_q=1, max_k=100)
    (kept, _, kept_ids), (fresh, _, fresh_ids) = outputs(1), outputs(1)
    paged.launch(q, k_pages, v_pages, kept, ids=kept_ids, rows=rows, **lens)
    paged.launch(q, k_pages, v_pages, fresh, ids=fresh_ids, **lens)
    np.testing.assert_array_equal(kept_ids, fresh_ids)
    np.testing.assert_array_equal(kept, fresh)
    window, stride = layout[0]
    wanted = reference.summaries(k, window, stride)
    for j, row in enumerate(wanted):
        slot = j + (window - 1) // stride
        place = rows[0][table[0, slot * stride // page], slot % (page // stride)]
        np.testing.assert_array_equal(place.astype(np.float64), row)


def test_a_table_of_rows(paged):
    """Pages of one token, as SGLang has them: rows have a table of their own, and one dimension less."""
    q, k, v = sequence(1, 64)
    (k_pages, table), (v_pages, _) = (in_pages([rows], 1) for rows in (k, v))
    rows = [np.full((20, KV_HEADS, DIM), np.nan, np.float16) for _ in paged.rows_layout]
    rows_table = np.random.default_rng(1).permutation(20).astype(np.int32)[None, :17]
    lens = dict(seq_k=np.array([64], np.int32), page_table=table, rows=rows, rows_table=rows_table, max_k=64)
    paged.launch(None, k_pages, cu_q=lengths(64), max_q=64, phase="append", **lens)
    out, lse, ids = outputs(1)
    paged.launch(q, k_pages, v_pages, out, lse=lse, ids=ids, cu_q=lengths(1), max_q=1, **lens)
    check_selection(ids, q, k)
    check_attention(out, lse, q, k, v, ids)
