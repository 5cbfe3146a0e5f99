"""The package on a GPU, with torch: answers as on the CPU, streams, graphs, compiled code, the time of a launch."""

import ctypes
import time

import pytest
import torch

import winnow
from winnow import _winnow
from winnow.torch import append_rows, attention_with_kvcache, prepare, sparse_attention

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

HEADS, KV_HEADS, DIM, TOPK, PAGE = 32, 2, 128, 16, 64
METHOD = "infllm_v2"
SPEC = dict(topk=TOPK, params=dict(local=4))
MICROSECONDS_OF_A_LAUNCH = 2  # beyond what the driver's own calls take: of a launch without work
MICROSECONDS_OF_THE_OUT_VARIANT = 6  # beyond Program.launch


def tensors(tokens, queries=None, device="cuda"):
    torch.manual_seed(tokens)
    q = torch.randn(queries or tokens, HEADS, DIM)
    k, v = torch.randn(2, tokens, KV_HEADS, DIM, dtype=torch.bfloat16)
    # Blocks of unlike scores: keys of a block lean towards its queries by a share of their own.
    share = torch.randperm(-(-tokens // 64)) / (-(-tokens // 64))
    k += (share.repeat_interleave(64)[:tokens, None, None] * q.mean(0).view(KV_HEADS, -1, DIM).mean(1) * 8).bfloat16()
    q = q.bfloat16()
    return [tensor.to(device) for tensor in (q, k, v)]


def lengths(*counts, device="cuda"):
    return torch.tensor([0, *counts], dtype=torch.int32).cumsum(0, dtype=torch.int32).to(device)


def check(out, wanted, ids=None, wanted_ids=None):
    if ids is not None:  # blocks whose scores are equal within rounding may swap
        assert (ids.cpu() == wanted_ids).float().mean() > 0.98
        rows = (ids.cpu() == wanted_ids).all(-1).repeat_interleave(HEADS // KV_HEADS, 0).T
        out, wanted = out.cpu()[rows], wanted[rows]
    torch.testing.assert_close(out.cpu(), wanted, rtol=3e-2, atol=2e-2)


@pytest.mark.parametrize("method", ["dense", "infllm_v2"])
def test_as_on_the_cpu(method):
    q, k, v = tensors(3000)
    spec = SPEC if method == "infllm_v2" else {}
    out, lse, ids = sparse_attention(q, k, v, lengths(1000, 2000), max_q=2000, max_k=2000, method=method, return_lse=True,
                                     return_ids=True, **spec)
    wanted, wanted_lse, wanted_ids = sparse_attention(q.cpu(), k.cpu(), v.cpu(), lengths(1000, 2000, device="cpu"), max_q=2000,
                                                      max_k=2000, method=method, return_lse=True, return_ids=True, **spec)
    check(out, wanted, *((ids, wanted_ids) if spec else ()))
    if not spec:
        torch.testing.assert_close(lse.cpu(), wanted_lse, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["dense", "infllm_v2"])
def test_gradients_as_on_the_cpu(method):
    leaves = [tensor.requires_grad_() for tensor in tensors(1500)]
    spec = SPEC if method == "infllm_v2" else {}
    out, ids = sparse_attention(*leaves, lengths(600, 900), max_q=900, max_k=900, method=method, return_ids=True, **spec)
    dout = torch.randn_like(out)
    out.backward(dout)
    program = winnow.prepare(method, device="cpu", heads=HEADS, kv_heads=KV_HEADS, head_dim=DIM, backward=True, **spec)
    q, k, v = (tensor.detach().cpu() for tensor in leaves)
    shape = dict(cu_q=lengths(600, 900, device="cpu"), cu_k=lengths(600, 900, device="cpu"), max_q=900, max_k=900)
    given, lse = dict(ids=ids.cpu()) if spec else {}, torch.empty(HEADS, 1500)
    host = torch.empty_like(q)
    program.launch(q, k, v, host, lse=lse, phase="attend", **given, **shape)
    wanted = [torch.empty_like(tensor) for tensor in (q, k, v)]
    program.launch_backward(q, k, v, host, lse=lse, dout=dout.cpu(), **dict(zip(("dq", "dk", "dv"), wanted)), **given, **shape)
    for leaf, exact in zip(leaves, wanted):
        torch.testing.assert_close(leaf.grad.cpu(), exact, rtol=5e-2, atol=5e-2)
    again = [tensor.detach().clone().requires_grad_() for tensor in leaves]
    sparse_attention(*again, lengths(600, 900), max_q=900, max_k=900, method=method, **spec).backward(dout)
    for one, other in zip(leaves, again):  # the same bits
        assert torch.equal(one.grad, other.grad)


class Decode:
    """Two sequences over pages of K and V side by side, and the rows that the host keeps."""

    def __init__(self, keys=(2000, 1500)):
        self.parts = [tensors(count, queries=1) for count in keys]
        pages = [-(-count // PAGE) for count in keys]
        self.cache = torch.full((sum(pages) + 1, PAGE, KV_HEADS, 2 * DIM), float("nan"), dtype=torch.bfloat16, device="cuda")
        order, taken = torch.randperm(sum(pages)), 0
        self.table = torch.zeros(len(keys), max(pages), dtype=torch.int32)
        for s, (_, k, v) in enumerate(self.parts):
            here = order[taken : taken + pages[s]]
            self.table[s, : pages[s]] = here
            taken += pages[s]
            for page, number in enumerate(here.tolist()):
                both = torch.cat((k, v), -1)[page * PAGE : (page + 1) * PAGE]
                self.cache[number, : len(both)] = both
        self.k_cache, self.v_cache = self.cache.split(DIM, -1)
        self.q = torch.cat([part[0] for part in self.parts])
        self.table = self.table.cuda()
        self.seq_k = torch.tensor(keys, dtype=torch.int32, device="cuda")
        self.cu_q = torch.arange(len(keys) + 1, dtype=torch.int32, device="cuda")
        self.spec = dict(heads=HEADS, kv_heads=KV_HEADS, head_dim=DIM, dtype="bf16", paged=True, **SPEC)
        self.text = prepare(METHOD, device="cuda", **self.spec)
        self.program = winnow.prepare(METHOD, device=torch.cuda.current_device(), **self.spec)
        self.rows = [torch.zeros(len(self.cache), PAGE // stride, KV_HEADS, DIM, dtype=torch.bfloat16, device="cuda")
                     for _, stride in self.program.rows_layout]
        append_rows(self.k_cache, self.rows, cu_seqlens_q=lengths(*keys), cache_seqlens=self.seq_k, page_table=self.table,
                    max_q=max(keys), max_k=max(keys), spec=self.text)
        self.out = torch.empty_like(self.q)
        self.ids = torch.empty(self.program.select_heads, len(keys), TOPK, dtype=torch.int32, device="cuda")
        room = self.program.workspace_size(batch=len(keys), total_q=len(keys), max_q=1, max_k=max(keys))
        self.room = torch.empty(room, dtype=torch.uint8, device="cuda")
        self.max_k = max(keys)

    def step(self):
        return attention_with_kvcache(self.q, self.k_cache, self.v_cache, self.rows, cu_seqlens_q=self.cu_q,
                                      cache_seqlens=self.seq_k, page_table=self.table, max_q=1, max_k=self.max_k, out=self.out,
                                      ids=self.ids, workspace=self.room, method=METHOD, **SPEC)

    def launch(self, stream=None):
        self.program.launch(self.q, self.k_cache, self.v_cache, self.out, rows=self.rows, cu_q=self.cu_q, seq_k=self.seq_k,
                            page_table=self.table, max_q=1, max_k=self.max_k, ids=self.ids, workspace=self.room, stream=stream)

    def check(self):
        torch.cuda.synchronize()
        for s, (q, k, v) in enumerate(self.parts):
            wanted, ids = sparse_attention(q.cpu(), k.cpu(), v.cpu(), lengths(1, device="cpu"), lengths(len(k), device="cpu"),
                                           max_q=1, max_k=len(k), return_ids=True, method=METHOD, **SPEC)
            check(self.out[s : s + 1], wanted, self.ids[:, s : s + 1], ids)


def test_decode():
    decode = Decode()
    decode.step()
    decode.check()


def test_the_current_stream_and_a_given_one():
    decode = Decode()
    decode.launch()
    assert decode.out.any()  # kernels are loaded now: loading one would wait for busy streams
    torch.cuda.synchronize()
    for given in (False, True):
        decode.out.zero_()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        if given:
            decode.launch(stream)
        else:
            with torch.cuda.stream(stream):
                torch.cuda._sleep(400_000_000)  # cycles: out stays zero while the stream is busy
                decode.launch()
            assert not decode.out.any(), "the launch did not wait for the stream it was made on"
        stream.synchronize()
        decode.check()


def test_a_graph():
    decode = Decode()
    decode.step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        decode.step()
    decode.out.zero_()
    graph.replay()
    decode.check()


def test_a_graph_of_a_prompt():
    q, k, v = tensors(1500)
    call = dict(max_q=1500, max_k=1500, method=METHOD, **SPEC)
    bounds = lengths(1500)
    wanted = sparse_attention(q, k, v, bounds, **call)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = sparse_attention(q, k, v, bounds, **call)
    out.zero_()
    graph.replay()
    assert torch.equal(out, wanted)


def test_a_capture_that_finds_no_program_goes_on():
    """Nothing is compiled or loaded in a capture: the call is refused, and what else was captured is replayed."""
    q, k, v = tensors(700)
    call = dict(max_q=700, max_k=700, method=METHOD, **{**SPEC, "topk": TOPK - 3})  # of no other test
    bounds = lengths(700)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        doubled = q * 2
        with pytest.raises(winnow.NotReadyError):
            sparse_attention(q, k, v, bounds, **call)
        doubled += 1
    doubled.zero_()
    graph.replay()
    assert torch.equal(doubled, q * 2 + 1)
    assert sparse_attention(q, k, v, bounds, **call).any()


@pytest.mark.parametrize("new", [1, 40])
def test_a_cache_of_fp8_and_new_keys(new):
    """New keys are divided by their scales and written; decode and a prompt's chunk answer as on the CPU."""
    keys, pages = 1000, 16
    q, k, v = tensors(keys, queries=new)
    k_descale, v_descale = (torch.tensor(scale, device="cuda") for scale in ([0.02, 0.05], [0.01, 0.03]))
    table = torch.randperm(pages, device="cuda", dtype=torch.int32)[None]

    def answer(device):
        caches = [torch.zeros(pages, PAGE, KV_HEADS, DIM, dtype=torch.float8_e4m3fn, device=device) for _ in range(2)]
        given = dict(page_table=table.to(device), max_k=keys, k_descale=k_descale.to(device), v_descale=v_descale.to(device),
                     method=METHOD, **SPEC)
        for first, count in ((0, keys - new), (keys - new, new)):
            place = slice(first, first + count)
            queries = q.to(device) if first else torch.zeros(count, HEADS, DIM, dtype=torch.bfloat16, device=device)
            out = attention_with_kvcache(queries, *caches, k=k[place].to(device), v=v[place].to(device), max_q=count,
                                         cu_seqlens_q=lengths(count, device=device), **given,
                                         cache_seqlens=torch.tensor([first + count], dtype=torch.int32, device=device))
        return out, caches

    (out, caches), (wanted, wanted_caches) = answer("cuda"), answer("cpu")
    for cache, other in zip(caches, wanted_caches):
        torch.testing.assert_close(cache.float().cpu(), other.float(), rtol=0.13, atol=1e-2)  # a rounding of e4m3
        assert (cache.float().cpu() == other.float()).float().mean() > 0.999
    agrees = ((out.cpu() - wanted).abs() < 2e-2 + 3e-2 * wanted.abs()).all(-1).float().mean()
    assert agrees > 0.95, agrees  # blocks whose scores are equal within rounding may swap


def test_compile():
    decode = Decode()
    compiled = torch.compile(lambda q: decode.step() * q, fullgraph=True)
    wanted = decode.step().clone() * decode.q
    torch.testing.assert_close(compiled(decode.q), wanted)


def test_other_threads_and_devices_are_named():
    decode = Decode()
    with pytest.raises(winnow.InvalidError, match="q lies on the CPU"):
        decode.program.launch(decode.q.cpu(), decode.k_cache, decode.v_cache, decode.out, cu_q=decode.cu_q, max_q=1, max_k=1)


class CShape(ctypes.Structure):  # winnow_shape
    _fields_ = [("struct_size", ctypes.c_size_t),
                *[(name, ctypes.c_int32) for name in ("batch", "total_q", "total_k", "max_q", "max_k")]]


class CLaunch(ctypes.Structure):  # winnow_launch_args
    _fields_ = [("struct_size", ctypes.c_size_t),
                *[(name, ctypes.c_void_p) for name in ("q", "k", "v", "out", "lse", "ids", "cu_q", "cu_k", "shape")],
                ("phase", ctypes.c_int32), ("workspace", ctypes.c_void_p), ("workspace_bytes", ctypes.c_size_t),
                ("strides", ctypes.c_int64 * 10), ("seq_k", ctypes.c_void_p), ("page_table", ctypes.c_void_p),
                ("page_table_stride", ctypes.c_int64), ("k_begin", ctypes.c_void_p), ("page_size", ctypes.c_int32),
                ("reserved", ctypes.c_int32), ("rows", ctypes.c_void_p * 2), ("rows_stride", ctypes.c_int64 * 6),
                ("rows_table", ctypes.c_void_p), ("rows_table_stride", ctypes.c_int64), ("k_scale", ctypes.c_void_p),
                ("v_scale", ctypes.c_void_p)]


def without_python(decode):
    """What calls winnow_launch for no queries, and what calls a function that does nothing in the same way."""
    library = ctypes.PyDLL(_winnow.__file__)  # finds what the extension is linked with, too
    pointer = {name: getattr(decode, name).data_ptr() for name in ("q", "k_cache", "v_cache", "out", "ids", "cu_q", "seq_k", "table",
                                                                   "room")}
    shape = CShape(ctypes.sizeof(CShape), len(decode.seq_k), 0, 0, 1, decode.max_k)
    launch = CLaunch(ctypes.sizeof(CLaunch), pointer["q"], pointer["k_cache"], pointer["v_cache"], pointer["out"], None,
                     pointer["ids"], pointer["cu_q"], None, ctypes.addressof(shape), 0, pointer["room"], decode.room.nbytes,
                     seq_k=pointer["seq_k"], page_table=pointer["table"], page_table_stride=decode.table.stride(0), page_size=PAGE)
    launch.rows[:] = [tensor.data_ptr() for tensor in decode.rows]
    # The handle is the first field of the Python object (runtime/python/src/Program.h).
    program = ctypes.c_void_p.from_address(id(decode.program) + object.__basicsize__)
    arguments = program, ctypes.c_void_p(ctypes.addressof(launch)), ctypes.c_void_p(0)
    assert library.winnow_launch(*arguments) == 0
    keep = shape, launch
    return lambda: (library.winnow_launch(*arguments), keep), lambda: (library.winnow_version(*arguments), keep)


def test_the_time_of_a_launch():
    decode = Decode(keys=(300, 200))

    def median(call, rounds=2000):
        times = []
        for _ in range(rounds):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
            if len(times) % 100 == 0:
                torch.cuda.synchronize()
        return sorted(times)[rounds // 2] * 1e6

    def without_work():
        decode.program.launch(no_q, decode.k_cache, decode.v_cache, no_out, rows=decode.rows, cu_q=no_lengths, seq_k=decode.seq_k,
                              page_table=decode.table, max_q=1, max_k=decode.max_k, ids=no_ids, workspace=decode.room)

    no_q, no_out, no_ids, no_lengths = decode.q[:0], decode.out[:0], decode.ids[:, :0], decode.cu_q * 0
    call, empty_call = map(median, without_python(decode))
    nothing, launch, step = median(without_work), median(decode.launch), median(decode.step)
    print(f"without work winnow_launch {call - empty_call:.1f} us, Program.launch {nothing:.1f} us; with work Program.launch "
          f"{launch:.1f} us, attention_with_kvcache {step:.1f} us")
    assert nothing < MICROSECONDS_OF_A_LAUNCH
    assert step - launch < MICROSECONDS_OF_THE_OUT_VARIANT
