"""Block-sparse attention kernels, prepared once and launched over tensors of any library.

    import winnow
    program = winnow.prepare("infllm_v2", heads=32, kv_heads=2, topk=96, device=0)
    program.launch(q, k, v, out, ids=ids, cu_q=cu, cu_k=cu, max_q=n, max_k=n, workspace=room)

Tensors come by DLPack (torch, numpy, cupy, jax) and are never copied. Prepare may compile; launch never does.
"""

from ._compile import Compiled, compile
from ._doctor import doctor
from ._engine import Engine, find, prepare, prepare_list
from ._methods import Method, methods
from ._spec import Spec
from ._tune import tune
from ._winnow import (
    CPU,
    CompileError,
    DeviceError,
    Error,
    InvalidError,
    NotReadyError,
    Program,
    UnsupportedError,
    version as _version,
)

__version__ = _version()

__all__ = [
    "CPU",
    "CompileError",
    "Compiled",
    "DeviceError",
    "Engine",
    "Error",
    "InvalidError",
    "Method",
    "NotReadyError",
    "Program",
    "Spec",
    "UnsupportedError",
    "compile",
    "doctor",
    "find",
    "methods",
    "prepare",
    "prepare_list",
    "tune",
]
