"""What this machine has."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import _winnow
from ._engine import Engine
from ._methods import methods
from ._spec import Spec


def _why_not(attempt: Callable[[], object]) -> str | None:
    """None where it works, else the sentence that says why not."""
    try:
        attempt()
    except _winnow.Error as error:
        return str(error)
    return None


def doctor() -> dict[str, Any]:
    """What is here and what is missing: for each part None where it works, else the reason; nothing is compiled.

    "engine": programs can be prepared for some device; "gpu": for a GPU, by its driver; "compiler": methods can be compiled
    for the CPU; "nvrtc": and for a GPU, on this machine. The command `winnow doctor` of a full installation tells more.
    """
    any_gpu = Spec("dense", heads=1, kv_heads=1, arch="sm_80")
    return {
        "winnow": _winnow.version(),
        "python": sys.version.split()[0],
        "package": str(Path(__file__).parent),
        "methods": [method.name for method in methods()],
        "engine": _why_not(Engine),
        "gpu": _why_not(lambda: Engine(compiler="")),
        "compiler": _why_not(lambda: _winnow.compiler_load(None)),
        "nvrtc": _why_not(lambda: _winnow.compiler_key(any_gpu, None)),
        "environment": {name: value for name, value in sorted(os.environ.items())
                        if name.startswith("WINNOW_") or name in ("CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV")},
    }
