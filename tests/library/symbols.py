#!/usr/bin/env python3
# What the two shared libraries show to the process that loads them and need of its machine: exported names, libraries,
# versions of glibc, size. Entry: a shared library; readelf and strip of binutils.
# Exit: one line per fault on stdout; status 1 if there is any.
import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

NEWEST_GLIBC = (2, 35)  # Ubuntu 22.04, the base of most CUDA images; manylinux_2_35
# Of the C library alone: LLVM, NVRTC, the CUDA driver and the C++ runtime are inside, or opened by hand.
SYSTEM_LIBRARIES = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"}


def readelf(option, path):
    return subprocess.run(["readelf", "-W", option, str(path)], check=True, capture_output=True, text=True).stdout


def exported(path):
    """Names of the defined symbols that the dynamic linker sees."""
    for line in readelf("--dyn-syms", path).splitlines():
        columns = line.split()
        if len(columns) >= 8 and columns[0].rstrip(":").isdigit() and columns[6] != "UND":
            yield columns[7].split("@")[0]


def stripped_size(path):
    with tempfile.NamedTemporaryFile() as copy:
        subprocess.run(["strip", "-o", copy.name, str(path)], check=True)
        return Path(copy.name).stat().st_size


def faults(path, pattern, limit):
    names = list(exported(path))
    if not names:
        yield "exports nothing"
    for name in names:
        if not re.fullmatch(pattern, name):
            yield f"exports {name}"
    for needed in re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("--dynamic", path)):
        if needed not in SYSTEM_LIBRARIES:
            yield f"needs {needed}"
    for version in sorted(set(re.findall(r"GLIBC_(\d+)\.(\d+)", readelf("--version-info", path)))):
        if tuple(map(int, version)) > NEWEST_GLIBC:
            yield f"needs glibc {'.'.join(version)}"
    if limit and stripped_size(path) > limit:
        yield f"has {stripped_size(path)} bytes when stripped, at most {limit} are allowed"


def main():
    parser = argparse.ArgumentParser(description="Checks what shared libraries export and need.")
    parser.add_argument("library", type=Path)
    parser.add_argument("--exports", required=True, metavar="REGEX", help="what an exported name must match")
    parser.add_argument("--limit", type=int, default=0, metavar="BYTES", help="largest size when stripped; 0: none")
    arguments = parser.parse_args()
    found = [f"{arguments.library.name} {fault}" for fault in faults(arguments.library, arguments.exports, arguments.limit)]
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
