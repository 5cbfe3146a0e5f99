"""The built-in methods."""

from __future__ import annotations

import dataclasses
import re
from importlib import resources

_HEAD = re.compile(r'select\.method\s+@(\w+)\s+doc\s+"([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Method:
    """A built-in method: its name, one line about it, and its text in Winnow's dialect."""

    name: str
    doc: str
    text: str = dataclasses.field(repr=False)


def methods() -> list[Method]:
    """The built-in methods, in alphabetical order."""
    found = []
    for file in (resources.files(__package__) / "methods").iterdir():
        text = file.read_text(encoding="utf-8")
        if head := _HEAD.search(text):
            found.append(Method(head[1], head[2], text))
    return sorted(found, key=lambda method: method.name)
