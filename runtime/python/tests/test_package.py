"""What needs no launch: methods, specs, errors, compiling without a GPU, doctor."""

import json
import os
import pickle
import subprocess
import sys
import time

import pytest

import winnow
from small import SMALL


def test_version_and_methods():
    assert winnow.__version__.count(".") == 2
    methods = {method.name: method for method in winnow.methods()}
    assert list(methods) == sorted(methods) and {"dense", "infllm_v2"} <= set(methods)
    assert "top-k" in methods["infllm_v2"].doc and "select.method @infllm_v2" in methods["infllm_v2"].text


def test_specs_are_values():
    spec = winnow.Spec("infllm_v2", heads=32, kv_heads=2, dtype="bfloat16", params={"local": 4, "init": 1})
    assert (spec.dtype, spec.params) == ("bf16", "local=4,init=1")
    assert spec == winnow.Spec("infllm_v2", heads=32, kv_heads=2, params="local=4,init=1")
    assert len({spec, pickle.loads(pickle.dumps(spec))}) == 1


def test_errors_are_of_two_classes():
    for error, builtin, status in ((winnow.InvalidError, ValueError, 2), (winnow.UnsupportedError, NotImplementedError, 3),
                                   (winnow.CompileError, RuntimeError, 4), (winnow.DeviceError, RuntimeError, 5),
                                   (winnow.NotReadyError, RuntimeError, 6)):
        assert issubclass(error, winnow.Error) and issubclass(error, builtin) and error.status == status


def test_compile(tmp_path):
    compiled = winnow.compile("dense", heads=4, kv_heads=2, head_dim=64, arch="sm_80")
    assert len(compiled.key) == 64
    assert list(compiled.cubin) == ["attend"] and compiled.cubin["attend"].startswith(b"\x7fELF")
    assert "__global__" in compiled.source["attend"]
    compiled.save(tmp_path / "dense.winnow")
    assert (tmp_path / "dense.winnow").read_bytes().startswith(b"WINNOWPI")


@pytest.mark.parametrize("fields, error, words", [
    (dict(), winnow.InvalidError, "arch is missing"),
    (dict(arch="sm_1"), winnow.Error, "sm_1"),
    (dict(arch="sm_80", compiler="/nowhere.so"), winnow.UnsupportedError, "/nowhere.so"),
    (dict(arch="sm_80", config="attend_warps=1000"), winnow.InvalidError, "attend_warps"),
])
def test_compile_refuses(fields, error, words):
    with pytest.raises(error, match=words):
        winnow.compile("dense", heads=4, kv_heads=2, **fields)


def test_doctor():
    facts = winnow.doctor()
    assert facts["compiler"] is None and facts["winnow"] == winnow.__version__
    assert "WINNOW_CACHE_DIR" in facts["environment"]
    assert facts["nvrtc"] is None and facts["engine"] is None


def test_doctor_says_what_is_missing():
    """In a process of its own, since a library is looked for once."""
    ask = "import winnow; facts = winnow.doctor(); print(facts['compiler']); print(facts['nvrtc']); print(facts['gpu'])"
    missing = dict(os.environ, WINNOW_NVRTC="/nowhere/libnvrtc.so.13", WINNOW_LIBCUDA="/nowhere/libcuda.so.1")
    told = subprocess.run([sys.executable, "-c", ask], env=missing, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[0] == "None" and "NVRTC was not found (tried /nowhere/libnvrtc.so.13)" in told[1]
    assert told[2].startswith("no CUDA driver: /nowhere/libcuda.so.1")
    here = subprocess.run([sys.executable, "-c", ask], env=dict(os.environ, WINNOW_LIBCUDA=os.environ["WINNOW_TEST_DRIVER"]),
                          capture_output=True, text=True, check=True).stdout.splitlines()
    assert here == ["None"] * 3


def test_tune_runs_the_command(tmp_path):
    """The command is a script here that keeps its words and answers as the real one does."""
    command, said = tmp_path / "winnow", []
    command.write_text("""#!/bin/sh
echo "$@" > "$(dirname "$0")/words"; cp "$2" "$(dirname "$0")/specs" 2>/dev/null
while [ "$1" != --db ]; do shift; done
printf '{"kind":"trial","ms":2}\\n{"kind":"record","ms":1}\\n' >> "$2"
echo "1 of 1 tasks"
""")
    command.chmod(0o755)
    grids = [dict(method="infllm_v2", topk=[16, 96], seq=131072)]
    db = tmp_path / "sweep.jsonl"
    records = winnow.tune(grids, db=db, command=command, progress=said.append, space="full", resume=True, gpus=[0, 1], jobs=None)
    assert records == [{"kind": "record", "ms": 1}] and said == ["1 of 1 tasks"]
    words = (tmp_path / "words").read_text().split()
    assert words[0] == "tune" and words[2:] == ["--db", str(db), "--space", "full", "--resume", "--gpus", "0,1"]
    assert json.loads((tmp_path / "specs").read_text()) == grids


def test_tune(tmp_path):
    """The command of this build, with a worker that plays the GPU."""
    worker, said, db = tmp_path / "worker.json", [], tmp_path / "sweep.jsonl"
    worker.write_text(json.dumps({"device": "Fake 80GB", "sleep": 0, "configs": {"attend_keys=32": {"ms": 5}}}))
    spec = dict(method="infllm_v2", heads=32, kv_heads=2, head_dim=128, block=64, topk=96, seq=131072, overlap=32, phase="attend")
    played = dict(command=os.environ["WINNOW_TEST_COMMAND"], arch="sm_80", jobs=1, worker=f"{os.environ['WINNOW_TEST_TUNE_WORKER']} {worker}", progress=said.append)
    records = winnow.tune([spec], db=db, space="quick", **played)
    assert [(record["config"], record["origin"]) for record in records] == [("attend_keys=32", "measured")] and said
    assert winnow.tune([spec], db=db, space="quick", resume=True, **played) == records
    with open(db, "a") as torn:
        torn.write('{"kind":"rec')
    assert winnow.tune([spec], db=db, space="quick", resume=True, **played) == records
    with pytest.raises(winnow.InvalidError, match="no_such_space"):
        winnow.tune([spec], db=db, space="no_such_space", **played)


@pytest.mark.parametrize("status, error", [(2, winnow.InvalidError), (3, winnow.UnsupportedError), (130, winnow.Error)])
def test_tune_tells_why_not(tmp_path, status, error):
    command = tmp_path / "winnow"
    command.write_text(f"#!/bin/sh\necho 'winnow: error: no such flag' >&2; exit {status}\n")
    command.chmod(0o755)
    with pytest.raises(error, match=f"ended with status {status}: winnow: error: no such flag"):
        winnow.tune("infllm_v2", db=tmp_path / "db.jsonl", command=command, progress=lambda line: None)


def test_tune_without_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(winnow.UnsupportedError, match="the command `winnow` was not found"):
        winnow.tune("infllm_v2", db=tmp_path / "db.jsonl")
    with pytest.raises(winnow.UnsupportedError, match="/nowhere/winnow cannot be started: No such file"):
        winnow.tune("infllm_v2", db=tmp_path / "db.jsonl", command="/nowhere/winnow")


def test_progress_of_a_list(capsys):
    specs = [dict(SMALL, method="dense", heads=heads) for heads in (2, 4)]
    for spec in specs:
        del spec["params"]
    winnow.prepare_list(specs, device="cpu", progress=True)
    assert capsys.readouterr().err.endswith("winnow: 2 of 2 programs\n")



def test_progress_ends_a_list(monkeypatch):
    """What was begun goes on; what nobody has begun is not prepared."""
    begun, several = [], [dict(heads=2, kv_heads=2, method="dense", expected_tokens=count) for count in range(100)]

    class Slow:
        def prepare(self, spec, device):
            begun.append(spec)
            time.sleep(0.05)

    def stop(done, count):
        assert (done, count) == (1, 100)
        raise KeyboardInterrupt

    engine = winnow.Engine()
    monkeypatch.setattr(engine, "_engine", Slow())
    with pytest.raises(KeyboardInterrupt):
        engine.prepare_list(several, device="cpu", progress=stop)
    assert len(begun) < 100
