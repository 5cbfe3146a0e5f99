#!/usr/bin/env python3
# Compares the interface that winnow.h declares and libwinnow.so exports with that of the last release (baseline.abi): what a
# host was compiled against must stay as it was; fields and enumerators may be appended, functions may be added
# (docs/versioning.md). Types are read from the debug information of a stand-in, a library in which every function of
# the header has an empty body (the runtime itself is built without), and in which structs have no more fields than then.
# Entry: --library, libwinnow.so; a C compiler and abigail-tools. Exit: status 1 and abidiff's report where a host would break.
# A release keeps its interface by --update.
import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = HERE.parents[1] / "runtime/api/winnow.h"
FUNCTION = re.compile(r"^WINNOW_API ([^;]*?(winnow_\w+)\([^;]*\));", re.MULTILINE)


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def must(*command):
    code, words = run(*command)
    if code:
        sys.exit(f"abi: {command[0]} ended with {code}: {words}")
    return words


def fields_then():
    """The names of the fields of each struct of the last release."""
    structs = ElementTree.parse(HERE / "baseline.abi").iter("class-decl")
    return {struct.get("name"): [field.get("name") for field in struct.iter("var-decl")]
            for struct in structs if struct.get("name").startswith("winnow_") and struct.get("is-declaration-only") != "yes"}


def as_then(header):
    """The header without the fields that structs have got since, and a sentence for each that lost one."""
    lost = []
    for struct, fields in fields_then().items():
        pattern = r"struct %s \{.*?%s\b[^;]*;" % (struct, r"\b.*?\b".join(fields))
        match = re.search(pattern + r"(?P<new>[^}]*)\}", header, re.DOTALL)
        if match:
            header = header[:match.start("new")] + header[match.end("new"):]
        else:
            lost.append(f"{struct} has no longer all of its fields in their order: {', '.join(fields)}\n")
    return header, "".join(lost)


def stand_in(header, folder, compiler):
    """A library with debug information in which every function that a header declares has an empty body."""
    source, library = folder / "stand_in.c", folder / "libwinnow.so"
    bodies = "".join(f"{declared} {{ __builtin_trap(); }}\n" for declared, _ in FUNCTION.findall(header))
    # Structs hold numbers of enumerations as int32_t: a variable of each makes it part of the interface.
    bodies += "".join(f"{name} a_{name};\n" for name in re.findall(r"^typedef enum (\w+)", header, re.MULTILINE))
    source.write_text(f"{header}\n{bodies}")
    must(compiler, "-std=gnu99", "-g", "-w", "-shared", "-fPIC", source, "-o", library)
    return library


def difference(header, compiler):
    """What a host of the last release would find changed; empty where it would find nothing."""
    header, lost = as_then(re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL))
    if lost:
        return lost
    with tempfile.TemporaryDirectory() as folder:
        library = stand_in(header, Path(folder), compiler)
        code, words = run("abidiff", "--no-added-syms", HERE / "baseline.abi", library)
    return words if code else ""


def exported(library):
    """The functions of a shared library."""
    return set(re.findall(r" T (\w+)", must("nm", "-D", "--defined-only", "--without-symbol-versions", library)))


def update(header, compiler):
    with tempfile.TemporaryDirectory() as folder:
        library = stand_in(header, Path(folder), compiler)
        must("abidw", "--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", "--out-file", HERE / "baseline.abi", library)


def main():
    parser = argparse.ArgumentParser(description="Compares the C ABI with that of the last release.")
    parser.add_argument("--library", type=Path)
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--update", action="store_true", help="keep the present interface as that of a release")
    arguments = parser.parse_args()
    if not shutil.which("abidiff"):
        sys.exit("abi: abidiff is not installed; tools/setup.sh test installs abigail-tools")
    header = HEADER.read_text()
    if arguments.update:
        return update(header, arguments.cc)
    if words := difference(header, arguments.cc):
        sys.exit(f"{words}\nabi: programs built against the last release would break; see 'The C ABI' in docs/versioning.md")
    declared = {name for _, name in FUNCTION.findall(header)}
    if arguments.library and (wrong := declared ^ exported(arguments.library)):
        sys.exit(f"abi: the header and {arguments.library.name} do not have the same functions: {' '.join(sorted(wrong))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
