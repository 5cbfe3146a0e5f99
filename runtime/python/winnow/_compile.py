"""Compiling without a GPU."""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Any

from . import _winnow
from ._spec import Spec, as_spec


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A program for one architecture: its key in the cache, and the image that a cache or an image file holds."""

    spec: Spec
    key: str
    image: bytes = dataclasses.field(repr=False)

    @functools.cached_property
    def cubin(self) -> dict[str, bytes]:
        """The code of each kernel (ELF), in launch order."""
        return {name: code for name, code, _ in self._kernels}

    @functools.cached_property
    def source(self) -> dict[str, str]:
        """The CUDA C++ text of each kernel."""
        return {name: text for name, _, text in self._kernels}

    @functools.cached_property
    def _kernels(self) -> list[tuple[str, bytes, str]]:
        return _winnow.image_kernels(self.image)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the image, for `winnow run --image` or winnow_prepare_image."""
        with open(path, "wb") as file:
            file.write(self.image)


def compile(method: str | Spec, *, arch: str | None = None, compiler: str | None = None, **spec: Any) -> Compiled:
    """Compiles a program for `arch` ("sm_90a"), without a GPU and without the cache.

    Tunables that the spec leaves open are the compiler's own; `compiler` is as in Engine.
    """
    if arch is not None:
        spec["arch"] = arch
    wanted = as_spec(method, spec)
    if not wanted.arch:
        raise _winnow.InvalidError("compile: arch is missing: say for which, as in arch='sm_90a'")
    key = _winnow.compiler_key(wanted, compiler)
    return Compiled(wanted, key.decode(), _winnow.compiler_build(wanted, compiler))
