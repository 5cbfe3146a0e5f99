"""What cannot be right is refused in one sentence that says what, where and what to do."""

import numpy as np
import pytest

import winnow

TOKENS = 24


def arguments():
    """Of a launch that is right, over the programs of conftest."""
    rng = np.random.default_rng(0)
    q, out = (rng.standard_normal((TOKENS, 4, 64)).astype(np.float16) for _ in range(2))
    k, v = (rng.standard_normal((TOKENS, 2, 64)).astype(np.float16) for _ in range(2))
    lengths = np.array([0, TOKENS], np.int32)
    return dict(q=q, k=k, v=v, out=out, cu_q=lengths, cu_k=lengths, max_q=TOKENS, max_k=TOKENS)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


HALF = np.float16
TABLE = dict(page_table=np.zeros((1, 2), np.int32), seq_k=np.array([TOKENS], np.int32), cu_k=None)
PAGES = dict(k=np.zeros((2, 16, 2, 64), HALF), v=np.zeros((2, 16, 2, 64), HALF))


def test_what_is_right_is_taken(packed, paged):
    packed.launch(**arguments())
    paged.launch(**arguments())
    paged.launch(**{**arguments(), **TABLE, **PAGES})


@pytest.mark.parametrize("changed, words", [
    (dict(q=np.zeros((TOKENS, 4, 64), np.float32)), r"q is float32; this program takes float16 \(or its bits as uint16\)"),
    (dict(q=np.zeros((TOKENS, 5, 64), HALF)), r"q has shape \(24, 5, 64\), not \(tokens, 4, 64\)"),
    (dict(q=np.zeros((TOKENS, 256), HALF)), r"q has shape \(24, 256\), not \(tokens, 4, 64\)"),
    (dict(out=np.zeros((TOKENS - 1, 4, 64), HALF)), "out has 23 tokens, the call 24"),
    (dict(out=read_only(np.zeros((TOKENS, 4, 64), HALF))), "out is read-only, but the launch writes it"),
    (dict(k=np.zeros((TOKENS, 1, 64), HALF)), r"k has shape \(24, 1, 64\), not \(tokens, 2, 64\)"),
    (dict(k=np.zeros((1, TOKENS, 2, 64), HALF)), r"k has shape .*not \(tokens, 2, 64\) \(pages need a page_table\)"),
    (dict(v=np.zeros((TOKENS + 1, 2, 64), HALF)), "v has shape .*: its first dimensions are not those of k"),
    (dict(cu_q=np.array([0, TOKENS])), "cu_q is int64, not int32"),
    (dict(cu_q=np.array([0], np.int32)), r"cu_q has shape \(1,\), not \(sequences \+ 1,\), contiguous"),
    (dict(cu_k=np.array([0, 1, TOKENS], np.int32)), r"cu_k has shape \(3,\), not \(2,\), contiguous: cu_q says"),
    (dict(cu_k=None), "launch: cu_k is null"),
    (dict(q=None), "launch: q is null"),
    (dict(lse=np.zeros((4, TOKENS))), "lse is float64, not float32"),
    (dict(lse=np.zeros((TOKENS, 4), np.float32)), r"lse has shape \(24, 4\), not \(4, 24\), contiguous"),
    (dict(ids=np.zeros((2, TOKENS, 5), np.int32)), r"ids has shape \(2, 24, 5\), not \(2, 24, 4\), contiguous"),
    (dict(ids=np.zeros((2, TOKENS, 4), np.int64)), "ids is int64, not int32"),
    (dict(phase="attend"), "launch: ids is null"),
    (dict(phase="both"), "phase is not one of 'all', 'select', 'attend', 'append'"),
    (dict(phase=1), "phase is not one of 'all', 'select', 'attend', 'append'"),
    (dict(max_k=-1), r"max_k is -1: take 0 to 2\^31 - 1"),
    (dict(total_q=TOKENS + 1), "q has 24 tokens, the call 25"),
    (dict(seq_k=np.array([TOKENS], np.int32)), "prepare it with `paged` set"),
    (dict(q=np.zeros((TOKENS, 4, 128), HALF)[:, :, :64]), "q is not contiguous: .*prepare with paged=True"),
    (dict(rows=np.zeros((1, 6, 2, 64), HALF)), "rows has 1 tensors, but this program keeps 0 summaries: prepare with paged"),
])
def test_refused(packed, changed, words):
    with pytest.raises(winnow.InvalidError, match=words) as raised:
        packed.launch(**{**arguments(), **changed})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("changed, words", [
    (dict(q=np.zeros((TOKENS, 4, 128), HALF)[:, :, ::2]), "q has a last dimension of stride 2"),
    (dict(k=np.broadcast_to(np.zeros((1, 2, 64), HALF), (TOKENS, 2, 64))), r"k repeats one entry along dimension 0"),
    (dict(q=np.zeros((TOKENS, 4, 68), HALF)[:, :, :64]), "q_stride.* take a multiple of 8 elements"),
    (dict(**TABLE), r"k has shape \(24, 2, 64\), not \(pages, tokens, 2, 64\)"),
    (dict(**TABLE, k=PAGES["k"], v=PAGES["v"][:, :8]), "v has shape .*: its first dimensions are not those of k"),
    (dict(**PAGES, **{**TABLE, "page_table": np.zeros((2, 2), np.int32)}), r"page_table has shape \(2, 2\), not \(1, ent"),
    (dict(**PAGES, **{**TABLE, "page_table": np.zeros((1, 2), np.int64)}), "page_table is int64, not int32"),
    (dict(**PAGES, **{**TABLE, "seq_k": np.zeros(2, np.int32)}), r"seq_k has shape \(2,\), not \(1,\)"),
    (dict(cu_k=None), "seq_k and page_table must be given"),
    (dict(**PAGES, **TABLE, rows=[np.zeros((2, 3, 2, 64), HALF)] * 2), r"rows\[0\] has shape .*take at least 2 pages of 4 slots"),
    (dict(**PAGES, **TABLE, rows=[np.zeros((2, 4, 2, 64), HALF)] * 3), "rows has 3 tensors, but this program keeps 2 summaries"),
])
def test_refused_of_strides_and_pages(paged, changed, words):
    with pytest.raises(winnow.InvalidError, match=words) as raised:
        paged.launch(**{**arguments(), **changed})
    assert "\n" not in str(raised.value)


def test_refused_of_fp8(fp8):
    bits, scale = np.zeros((2, 16, 2, 64), np.uint8), np.ones(2, np.float32)
    right = {**arguments(), **TABLE, "k": bits, "v": bits, "k_scale": scale, "v_scale": scale}
    fp8.launch(**right)
    for changed, words in [(PAGES, r"k is float16; this program takes float8_e4m3fn \(or its bits as uint8\)"),
                           (dict(k_scale=np.ones(4, np.float32)), r"k_scale has shape \(4,\), not \(2,\), contiguous"),
                           (dict(v_scale=np.ones(2)), "v_scale is float64, not float32")]:
        with pytest.raises(winnow.InvalidError, match=words):
            fp8.launch(**{**right, **changed})


def test_scales_are_for_fp8(paged):
    with pytest.raises(winnow.InvalidError, match="prepare it with kv_dtype fp8_e4m3"):
        paged.launch(**{**arguments(), **TABLE, **PAGES, "k_scale": np.ones(2, np.float32)})


def test_wrong_calls(packed):
    with pytest.raises(TypeError, match="launch: q is of type list, not a tensor"):
        packed.launch(**{**arguments(), "q": [1.0]})
    with pytest.raises(TypeError, match="launch has no argument 'cu_seqlens'"):
        packed.launch(**arguments(), cu_seqlens=1)
    with pytest.raises(TypeError, match="launch needs 'max_k'"):
        packed.launch(**{**arguments(), "max_k": None})
    with pytest.raises(TypeError, match="launch got 'q' twice"):
        packed.launch(arguments()["q"], **arguments())
    with pytest.raises(TypeError, match="by position, 5 were given"):
        packed.launch(1, 2, 3, 4, 5)
    with pytest.raises(TypeError):
        packed.launch(**{**arguments(), "max_q": "many"})
    with pytest.raises(TypeError):
        winnow.Program()


class Elsewhere:
    """A tensor that says it lies on a GPU."""

    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, **_):
        raise BufferError("it is busy")


def test_a_tensor_that_gives_no_memory(packed):
    with pytest.raises(winnow.InvalidError, match="q does not give its memory by DLPack: it is busy"):
        packed.launch(**{**arguments(), "q": Elsewhere(None)})


@pytest.mark.parametrize("fields, words", [
    (dict(heads=3, kv_heads=2), "heads"),
    (dict(heads=4, kv_heads=2, dtype="fp32"), "dtype is 'fp32': take 'bf16' or 'fp16'"),
    (dict(heads=4, kv_heads=2, kv_dtype="fp8_e5m2"), "kv_dtype is 'fp8_e5m2': take 'same' or 'fp8_e4m3'"),
    (dict(heads=4, kv_heads=2, kv_dtype="fp8_e4m3"), "kv_dtype fp8_e4m3 is for paged programs: set paged too"),
    (dict(heads=4.0, kv_heads=2), "heads is 4.0: take a whole number"),
    (dict(heads=4, kv_heads=2, params={"nothing": 1}), "nothing"),
    (dict(heads=4, kv_heads=2, device="gpu"), "device is 'gpu'"),
])
def test_specs(fields, words):
    with pytest.raises(winnow.InvalidError, match=words):
        winnow.prepare("infllm_v2", **{"device": "cpu", **fields})


def test_an_unknown_method():
    with pytest.raises(winnow.InvalidError, match="nowhere"):
        winnow.prepare("nowhere", heads=1, kv_heads=1, device="cpu")
