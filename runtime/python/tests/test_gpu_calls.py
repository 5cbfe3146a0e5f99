"""Launches on a GPU, over a CUDA driver that only notes what it is asked to do: devices, streams, workspaces."""

import json
import os
from pathlib import Path

import pytest
from dlpack import Exchanged, OnGpu

import winnow
from small import SMALL

DRIVER = os.environ.get("WINNOW_TEST_DRIVER")
pytestmark = pytest.mark.skipif(not DRIVER, reason="WINNOW_TEST_DRIVER names no driver made of host memory")
TOKENS = 64
SHIPPED = Path(__file__).parents[3] / "autotune/db/a100.jsonl"


@pytest.fixture(scope="module")
def program():
    return winnow.Engine(driver=DRIVER, tuning=False).prepare("infllm_v2", device="cuda:0", **SMALL)


def arguments(kind, program, **changed):
    heads = program.select_heads
    shape = dict(batch=1, total_q=TOKENS, max_q=TOKENS, total_k=TOKENS, max_k=TOKENS)
    room = kind(program.workspace_size(**shape), dtype="uint8")
    lengths = kind(2, dtype="int32")
    return {**dict(q=kind(TOKENS, 4, 64), k=kind(TOKENS, 2, 64), v=kind(TOKENS, 2, 64), out=kind(TOKENS, 4, 64),
                   ids=kind(heads, TOKENS, 4, dtype="int32"), cu_q=lengths, cu_k=lengths, max_q=TOKENS, max_k=TOKENS,
                   workspace=room), **changed}


def test_what_a_program_tells(program):
    assert (program.origin, program.device, program.select_heads) == ("compiled", 0, 2)
    assert len(program.key) == 64 and "attend_" in program.config
    assert program.rung("attend") in ("default", "given") and program.rung("select") == program.rung("attend")
    names = [kernel["name"] for kernel in program.kernels]
    assert "score" in names and "attend" in names
    assert all(32 <= kernel["threads"] <= 1024 and kernel["registers"] > 0 for kernel in program.kernels)
    assert program.time("select") is None and program.time("attend") is None  # without records
    for tell in (program.rung, program.time):
        with pytest.raises(winnow.InvalidError, match="'select', 'attend', 'decode' or 'backward'"):
            tell("all")


def test_a_program_tells_the_time_of_its_record(tmp_path):
    record = json.loads(SHIPPED.read_text().splitlines()[0])  # of another problem on another GPU
    spec = ("heads=4 kv_heads=2 head_dim=64 value_dim=64 block=16 topk=4 dtype=fp16 scale=0.125"
            + "".join(f" set.{name}={value}" for name, value in sorted(SMALL["params"].items())))
    record.update(phase="attend", method="infllm_v2", spec=spec, tokens=131072, overlap=32, arch="sm_80",
                  device="Fake 80GB", config="default", origin="model", ms=1.5)
    step = dict(record, phase="decode", spec=spec + " paged=1", overlap=0, batch=64, origin="measured", ms=0.2)
    (tmp_path / "tuned.jsonl").write_text("".join(json.dumps(one, separators=(",", ":")) + "\n" for one in (record, step)))
    engine = winnow.Engine(driver=DRIVER, tuned_files=str(tmp_path / "tuned.jsonl"))
    told = engine.prepare("infllm_v2", device="cuda:0", **SMALL)
    assert told.rung("attend") == "model"
    assert told.time("attend") == {"microseconds": 1500.0, "tokens": 131072, "batch": 1, "modelled": True}
    with pytest.raises(winnow.InvalidError, match="WINNOW_DECODE of a paged one"):
        told.rung("decode")
    serving = engine.prepare("infllm_v2", device="cuda:0", paged=True, expected_batch=64, **SMALL)
    assert serving.rung("decode") == "exact"
    assert serving.time("decode") == {"microseconds": 200.0, "tokens": 131072, "batch": 64, "modelled": False}


@pytest.mark.parametrize("kind", [OnGpu, Exchanged])
def test_launch(program, kind):
    program.launch(**arguments(kind, program))
    program.launch(**arguments(kind, program), stream=0x7000)


def test_the_stream_is_the_one_of_the_tensors_library(program):
    Exchanged.asked.clear()
    program.launch(**arguments(Exchanged, program))
    assert Exchanged.asked == [(2, 0)]
    program.launch(**arguments(Exchanged, program), stream=0x7000)
    assert Exchanged.asked == [(2, 0)]

    class TorchStream:
        cuda_stream = 0x8000

    class OtherStream:
        def __cuda_stream__(self):
            return 0, 0x9000

    for stream in (TorchStream(), OtherStream()):
        program.launch(**arguments(OnGpu, program), stream=stream)
    with pytest.raises(winnow.InvalidError, match="stream is no CUDA stream"):
        program.launch(**arguments(OnGpu, program), stream="main")


@pytest.mark.parametrize("changed, words", [
    (dict(k=OnGpu(TOKENS, 2, 64, device=1)), "k lies on GPU 1, but the program was prepared for GPU 0"),
    (dict(workspace=None), r"needs a workspace of \d+ bytes \(Program.workspace_size\)"),
    (dict(workspace=OnGpu(16, dtype="uint8")), "the workspace has 16 bytes"),
    (dict(workspace=OnGpu(1 << 24, dtype="uint8", address=0x100010)), "not aligned to 256 bytes"),
    (dict(v=OnGpu(TOKENS, 2, 64, dtype="bfloat16")), "v is bfloat16; this program takes float16"),
    (dict(ids=None), "ids is null"),
])
def test_refused(program, changed, words):
    with pytest.raises(winnow.InvalidError, match=words):
        program.launch(**arguments(OnGpu, program, **changed))


def test_host_tensors_are_refused(program):
    import numpy as np
    with pytest.raises(winnow.InvalidError, match="q lies on the CPU, but the program was prepared for GPU 0"):
        program.launch(**arguments(OnGpu, program, q=np.zeros((TOKENS, 4, 64), np.float16)))


def test_gpu_tensors_are_refused_on_the_cpu(packed, program):
    with pytest.raises(winnow.InvalidError, match="cu_q lies on GPU 0, but the program was prepared for the CPU"):
        packed.launch(**arguments(OnGpu, program))


def test_a_sealed_engine():
    engine = winnow.Engine(driver=DRIVER, tuning=False)
    engine.prepare("infllm_v2", **SMALL)  # which the fixture left in the cache
    engine.seal()
    with pytest.raises(winnow.NotReadyError):
        engine.prepare("infllm_v2", **{**SMALL, "topk": 5})
    with pytest.raises(winnow.NotReadyError):
        engine.find("infllm_v2", **{**SMALL, "topk": 5})
    assert engine.counters()["refused"] == 1
    assert isinstance(engine.export_decisions(), str)
