"""The extension: the C API of Winnow. Use the package around it."""

from collections.abc import Sequence
from typing import Any, Literal

from ._spec import Spec

CPU: int

class Error(Exception):
    """The base of all errors; `status` is the C API's number."""

    status: int

class InvalidError(Error, ValueError): ...
class UnsupportedError(Error, NotImplementedError): ...
class CompileError(Error, RuntimeError): ...
class DeviceError(Error, RuntimeError): ...
class NotReadyError(Error, RuntimeError): ...

_Tensor = Any  # what has __dlpack__
_Phase = Literal["all", "select", "attend", "append"]
_Rung = Literal["exact", "nearest", "other_device", "model", "default", "given"]
_TunedPhase = Literal["select", "attend", "decode", "backward"]  # decode: of paged programs; backward: of those with gradients

class Program:
    """A method compiled for one device."""

    @property
    def key(self) -> str: ...
    @property
    def config(self) -> str: ...
    @property
    def select_heads(self) -> int: ...
    @property
    def rows_layout(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def kernels(self) -> tuple[dict[str, str | int], ...]: ...
    @property
    def spec(self) -> Spec: ...
    @property
    def device(self) -> int: ...
    @property
    def origin(self) -> Literal["memory", "disk", "compiled"]: ...
    def rung(self, phase: _TunedPhase, /) -> _Rung: ...
    def time(self, phase: _TunedPhase, /) -> dict[str, float | int | bool] | None:
        """How long a phase should take on this GPU: "microseconds" of one launch over "batch" sequences of "tokens" tokens.

        All tokens of one sequence are queries; of decode, one of each of the sequences.
        From the record that the tunables come from; "modelled" where it is an estimate and nothing was run. None where no
        record is of this problem on this GPU.
        """
    def workspace_size(self, *, batch: int, total_q: int, max_q: int, max_k: int, total_k: int = 0) -> int: ...
    def launch(
        self,
        q: _Tensor | None = None,
        k: _Tensor | None = None,
        v: _Tensor | None = None,
        out: _Tensor | None = None,
        *,
        cu_q: _Tensor,
        max_q: int,
        max_k: int,
        cu_k: _Tensor | None = None,
        seq_k: _Tensor | None = None,
        page_table: _Tensor | None = None,
        k_begin: _Tensor | None = None,
        total_q: int | None = None,
        ids: _Tensor | None = None,
        lse: _Tensor | None = None,
        rows: _Tensor | Sequence[_Tensor] | None = None,
        rows_table: _Tensor | None = None,
        k_scale: _Tensor | None = None,
        v_scale: _Tensor | None = None,
        phase: _Phase = "all",
        workspace: _Tensor | None = None,
        stream: Any = None,
    ) -> None:
        """Runs the program; on a GPU enqueues it on `stream`, by default the current one of the tensors' library.

        q, out: [total_q, heads, dim]. k, v: [total_k, kv_heads, dim], or with a page_table [pages, tokens, kv_heads,
        dim]; programs with paged=True take any strides. k_scale, v_scale: [kv_heads] float32, of programs with a kv_dtype
        of fp8 alone: true keys and values are the stored ones times it; None: times 1. cu_q, cu_k: [batch + 1] and seq_k,
        k_begin: [batch], int32.
        ids: [select_heads, total_q, topk] int32, written by "all" and "select", read by "attend". lse: [heads,
        total_q] float32. workspace: at least workspace_size() bytes. On the CPU ids and workspace may be left out.
        """
    def backward_workspace_size(
        self, *, batch: int, total_q: int, max_q: int, max_k: int, total_k: int = 0
    ) -> int: ...
    def launch_backward(
        self,
        q: _Tensor,
        k: _Tensor,
        v: _Tensor,
        out: _Tensor,
        *,
        lse: _Tensor,
        dout: _Tensor,
        dq: _Tensor,
        dk: _Tensor,
        dv: _Tensor,
        cu_q: _Tensor,
        cu_k: _Tensor,
        max_q: int,
        max_k: int,
        total_q: int | None = None,
        ids: _Tensor | None = None,
        workspace: _Tensor | None = None,
        stream: Any = None,
    ) -> None:
        """Gradients of a launch, of a program that was prepared with backward=True; on a GPU enqueues it.

        out, lse and ids are what launch wrote, dout the gradient of out; dq, dk, dv are written, shaped like q, k, v and
        packed. The selection carries no gradient; keys that no query attended to get 0. workspace: at least
        backward_workspace_size() bytes; on the CPU it may be left out.
        """

class Engine:
    def __init__(
        self,
        *,
        compiler: str | None = None,
        cache_dir: str | None = None,
        driver: str | None = None,
        tuned_files: str | None = None,
        decisions: str | None = None,
        tuning: bool = True,
        replay_only: bool = False,
        allow_ptx: bool = False,
    ) -> None: ...
    def prepare(self, spec: Spec, device: int, /) -> Program: ...
    def find(self, spec: Spec, device: int, /) -> Program: ...
    def seal(self) -> None: ...
    def counters(self) -> dict[str, int]: ...
    def export_decisions(self) -> str: ...

def version() -> str: ...
def compiler_load(library: str | None, /) -> None: ...
def compiler_key(spec: Spec, library: str | None, /) -> bytes: ...
def compiler_build(spec: Spec, library: str | None, /) -> bytes: ...
def image_kernels(image: bytes, /) -> list[tuple[str, bytes, str]]: ...
