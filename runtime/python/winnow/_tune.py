"""Tuning sweeps: the command `winnow tune`, from Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import _winnow

#: Exceptions by the command's exit codes (docs/command-line.md).
_ERRORS = {2: _winnow.InvalidError, 3: _winnow.UnsupportedError, 4: _winnow.CompileError, 5: _winnow.DeviceError}


def _command(given: str | os.PathLike[str] | None) -> str:
    found = os.fspath(given) if given else shutil.which("winnow")
    if not found:
        raise _winnow.UnsupportedError("tune: the command `winnow` was not found. A wheel does not hold it: install Winnow's tools "
                                       "(cmake --install, or its Debian package), or give its path as `command`")
    return found


def _flags(options: Mapping[str, Any]) -> list[str]:
    """head_dim=[64, 128] as --head-dim 64,128; True alone as a flag without a value."""
    flags: list[str] = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        flags.append("--" + name.replace("_", "-"))
        if value is not True:
            many = isinstance(value, Sequence) and not isinstance(value, str)
            flags.append(",".join(map(str, value)) if many else str(value))
    return flags


def _records(db: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The records of a file of tuning lines. A line that is none, as a killed sweep leaves it, is passed over."""
    for line in Path(db).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            one = json.loads(line)
        except ValueError:
            continue
        if isinstance(one, dict) and one.get("kind") == "record":
            yield one


def tune(specs: str | os.PathLike[str] | Sequence[Mapping[str, Any]] = "", *, db: str | os.PathLike[str],
         progress: Callable[[str], object] | None = None, command: str | os.PathLike[str] | None = None,
         **options: Any) -> list[dict[str, Any]]:
    """Runs `winnow tune` to its end, and gives the records that `db` holds then, as dictionaries.

    specs: a method, for whose problems the options speak (head_dim=[64, 128], topk=96, seq=[16384, 131072], overlap=32,
    phase="decode", batch=[1, 16]); a file of grids; or grids as such, [{"method": "infllm_v2", "topk": [16, 96], "seq":
    131072}]. "": what Winnow ships. Other options are the command's with _ for -: space="full", gpus="0-3", resume=True.
    progress: called with each line that the command says; None: they go to stderr. An engine reads the file with
    Engine(tuned_files=...), every process after `winnow db import`.
    """
    words = [_command(command), "tune"]
    with tempfile.TemporaryDirectory() as folder:
        if not isinstance(specs, (str, os.PathLike)):
            grids = Path(folder, "specs.json")
            grids.write_text(json.dumps([dict(grid) for grid in specs]))
            specs = grids
        words += [*([os.fspath(specs)] if specs else []), "--db", os.fspath(db), *_flags(options)]
        try:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        except OSError as error:
            raise _winnow.UnsupportedError(f"tune: {words[0]} cannot be started: {error.strerror}; give another path as "
                                           "`command`") from error
        last = ""
        with process:
            try:
                for line in process.stdout or ():
                    last = line.rstrip() or last
                    if progress:
                        progress(line.rstrip())
                    else:
                        sys.stderr.write(line)
            except BaseException:  # Ctrl-C, or the caller's progress: what was measured is in the file
                process.terminate()
                raise
    if process.returncode != 0:
        kind = _ERRORS.get(process.returncode, _winnow.Error)
        raise kind(f"tune: the command ended with status {process.returncode}: {last}")
    return list(_records(db))
