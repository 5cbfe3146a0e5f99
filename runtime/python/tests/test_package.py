"""What needs no launch: methods, specs, errors, compiling without a GPU, doctor."""

import pickle

import pytest

import winnow


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
