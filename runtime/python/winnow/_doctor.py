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


def _why_not(attempt: Callable[[], object]) -> str | None:
    """None where it works, else the sentence that says why not."""
    try:
        attempt()
    except _winnow.Error as error:
        return str(error)
    return None


def doctor() -> dict[str, Any]:
    """What is here and what is missing: for each part None where it works, else the reason; nothing is compiled.

    The command `winnow doctor` of a full installation tells more.
    """
    return {
        "winnow": _winnow.version(),
        "python": sys.version.split()[0],
        "package": str(Path(__file__).parent),
        "methods": [method.name for method in methods()],
        "engine": _why_not(Engine),
        "compiler": _why_not(lambda: _winnow.compiler_load(None)),
        "environment": {name: value for name, value in sorted(os.environ.items())
                        if name.startswith("WINNOW_") or name in ("CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV")},
    }
