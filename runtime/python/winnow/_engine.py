"""Engines: where programs are prepared and kept."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from . import _winnow
from ._spec import Spec, as_spec

Device = int | str | Any


def device_index(device: Device) -> int:
    """A GPU's index, or CPU: of a number, "cpu", "cuda:1", or what prints so (a torch.device)."""
    if isinstance(device, int):
        return device
    kind, _, index = str(device).partition(":")
    if kind == "cpu":
        return _winnow.CPU
    if kind == "cuda" and (not index or index.isdecimal()):
        return int(index or 0)
    raise _winnow.InvalidError(f"device is {device!r}: take a GPU's index, 'cuda:0', or 'cpu'")


Progress = Callable[[int, int], object] | bool | None


def _say_progress(done: int, count: int) -> None:
    sys.stderr.write(f"\rwinnow: {done} of {count} programs" + ("\n" if done == count else ""))
    sys.stderr.flush()


class Engine:
    """Programs, the cache that they come from, and the compiler that makes those which it does not hold.

    compiler: the path of libwinnow_compiler.so; None looks beside libwinnow.so; "" is none: cached programs only.
    cache_dir: None takes it from the environment; "" is no cache on disk. driver: the CUDA driver, None the system's.
    tuning: whether tunables that a spec leaves open are looked up. tuned_files: further tuned configurations,
    separated by ':'. decisions: from export_decisions() of another process, with which replay_only runs the same
    kernels. allow_ptx: whether images may hold PTX.
    """

    def __init__(self, *, compiler: str | None = None, cache_dir: str | None = None, driver: str | None = None,
                 tuned_files: str | None = None, decisions: str | None = None, tuning: bool = True,
                 replay_only: bool = False, allow_ptx: bool = False) -> None:
        self._engine = _winnow.Engine(compiler=compiler, cache_dir=cache_dir, driver=driver, tuned_files=tuned_files,
                                      decisions=decisions, tuning=tuning, replay_only=replay_only,
                                      allow_ptx=allow_ptx)

    def prepare(self, method: str | Spec, *, device: Device = 0, **spec: Any) -> _winnow.Program:
        """Compiles or loads the program of a spec, given as such or by the fields of one."""
        return self._engine.prepare(as_spec(method, spec), device_index(device))

    def find(self, method: str | Spec, *, device: Device = 0, **spec: Any) -> _winnow.Program:
        """A program that was prepared before; never compiles or loads."""
        return self._engine.find(as_spec(method, spec), device_index(device))

    def prepare_list(self, specs: Sequence[Spec | Mapping[str, Any]], *, device: Device = 0,
                     progress: Progress = None) -> list[_winnow.Program]:
        """Prepares many programs, several at a time, and calls progress(done, of how many) after each; True: a line on stderr.

        What `progress` raises ends the call: programs that nobody has begun are not prepared. Where some fail, all others
        are prepared nevertheless; then the error of the first is raised.
        """
        index = device_index(device)
        wanted = [spec if isinstance(spec, Spec) else Spec(**spec) for spec in specs]
        # Processes that start together begin in different places, so that they share the work.
        first = os.getpid() % max(len(wanted), 1)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            futures = {place: pool.submit(self._engine.prepare, wanted[place], index)
                       for place in (*range(first, len(wanted)), *range(first))}
            tell = _say_progress if progress is True else progress or (lambda *_: None)
            try:
                for done, _ in enumerate(as_completed(futures.values()), start=1):
                    tell(done, len(wanted))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        for place in range(len(wanted)):
            if error := futures[place].exception():
                error.add_note(f"It was raised by specs[{place}], {wanted[place]}.")
                raise error
        return [futures[place].result() for place in range(len(wanted))]

    def seal(self) -> None:
        """From now on nothing is compiled: what is not in memory or in the cache is a NotReadyError."""
        self._engine.seal()

    def counters(self) -> dict[str, int]:
        """What prepare did so far: builds, disk_hits, memory_hits, refused."""
        return self._engine.counters()

    def export_decisions(self) -> str:
        """The configurations decided on, as JSON lines, for `decisions` of other ranks."""
        return self._engine.export_decisions()


@functools.cache
def _default() -> Engine:
    return Engine()


def prepare(method: str | Spec, *, device: Device = 0, **spec: Any) -> _winnow.Program:
    """Compiles or loads a program: prepare("infllm_v2", heads=32, kv_heads=2, device="cuda:0").

    device "cpu" makes a program whose launches run on the host before they return. The fields are those of Spec.
    """
    return _default().prepare(method, device=device, **spec)


def find(method: str | Spec, *, device: Device = 0, **spec: Any) -> _winnow.Program:
    """A program that prepare made before in this process; never compiles or loads."""
    return _default().find(method, device=device, **spec)


def prepare_list(specs: Sequence[Spec | Mapping[str, Any]], *, device: Device = 0,
                 progress: Progress = None) -> list[_winnow.Program]:
    """Prepares many programs at once; see Engine.prepare_list."""
    return _default().prepare_list(specs, device=device, progress=progress)
