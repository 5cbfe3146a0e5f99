"""What a program is specialised for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ._winnow import InvalidError

_DTYPES = {"bf16": 0, "bfloat16": 0, "fp16": 1, "float16": 1, "half": 1}  # winnow_dtype
_KV_DTYPES = {"same": 0, "fp8_e4m3": 1, "float8_e4m3fn": 1}  # winnow_kv_dtype
_MOST = 2**31 - 1


def _join(values: Mapping[str, Any] | Iterable[tuple[str, Any]] | str | None, separator: str) -> str:
    """Names and values as the C API takes them: "NAME=VALUE" and the next."""
    if values is None or isinstance(values, str):
        return values or ""
    return separator.join(f"{name}={value}" for name, value in dict(values).items())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """A specialisation of a method; `method` is a built-in name or the path of a method's text.

    Tunables that `config` leaves open are looked up; the fields called `expected_...` are hints for that, never limits. A
    `paged` program reads strides, lengths per sequence and page tables; any other reads packed tensors.
    """

    method: str = dataclasses.field(kw_only=False)
    heads: int  #: query heads, a multiple of kv_heads
    kv_heads: int
    head_dim: int = 128
    value_dim: int = 0  #: elements of a value row; 0: head_dim
    block: int = 64  #: tokens of a selectable block of keys
    topk: int = 96  #: blocks selected per token
    dtype: str = "bf16"  #: or "fp16"
    scale: float = 0.0  #: softmax scale; 0: head_dim ** -0.5
    params: Mapping[str, Any] | str | None = None  #: the method's own parameters
    config: Mapping[str, Any] | str | None = None  #: tunables of the generated kernels
    arch: str | None = None  #: "sm_90a", ...; None: that of the device
    expected_tokens: int = 0  #: of a typical sequence; 0: unknown
    expected_overlap: int = 0  #: over how many tokens a selection turns into a new one; 0: unknown
    paged: bool = False
    expected_batch: int = 0  #: sequences of a launch of decode; 0: unknown
    backward: bool = False  #: Program.launch_backward too; not for paged programs
    kv_dtype: str = "same"  #: of keys and values: as dtype, or "fp8_e4m3", which paged programs read

    def __post_init__(self) -> None:
        name = str(self.dtype).removeprefix("torch.")
        if name not in _DTYPES:
            raise InvalidError(f"spec: dtype is {self.dtype!r}: take 'bf16' or 'fp16'")
        object.__setattr__(self, "dtype", "bf16" if _DTYPES[name] == 0 else "fp16")
        name = str(self.kv_dtype).removeprefix("torch.")
        if name not in _KV_DTYPES:
            raise InvalidError(f"spec: kv_dtype is {self.kv_dtype!r}: take 'same' or 'fp8_e4m3'")
        object.__setattr__(self, "kv_dtype", "fp8_e4m3" if _KV_DTYPES[name] else "same")
        for field in ("heads", "kv_heads", "head_dim", "value_dim", "block", "topk", "expected_overlap",
                      "expected_batch"):
            value = getattr(self, field)
            if not isinstance(value, int) or not 0 <= value <= _MOST:
                raise InvalidError(f"spec: {field} is {value!r}: take a whole number, not negative")
        for field in ("params", "config"):  # a copy of our own, so that a spec can be hashed
            separator = "," if field == "params" else " "
            object.__setattr__(self, field, _join(getattr(self, field), separator))

    def _fields(self) -> tuple[Any, ...]:
        """In the order in which the extension reads them (src/Spec.cpp)."""
        return (self.method, self.heads, self.kv_heads, self.head_dim, self.value_dim, self.block, self.topk,
                _DTYPES[self.dtype], float(self.scale), self.params, self.config, self.arch, self.expected_tokens,
                self.expected_overlap, self.paged, self.expected_batch, self.backward, _KV_DTYPES[self.kv_dtype])


def as_spec(method: str | Spec, fields: Mapping[str, Any]) -> Spec:
    """The spec itself, or one made of a method and fields."""
    if isinstance(method, Spec):
        return dataclasses.replace(method, **fields) if fields else method
    return Spec(method, **fields)
