#!/usr/bin/env python3
# Runs clang-tidy 22 over the translation units of a build folder, several at a time. Files without MLIR are quick and
# are always all checked; files with MLIR headers take long, so --seconds bounds that part, the latest changed first,
# and the last lines say which files the time did not reach. A file that passed is not checked again until it, a project
# header or the checks change (stamps in BUILD/tidy).
# Entry: a configured build folder with its generated headers. Exit: status 1 if a file fails or a tool is missing.
import argparse
import concurrent.futures
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIDY = "clang-tidy-22"


def translation_units(build):
    """(path, has MLIR) of every source file of the tree in the compilation database."""
    database = json.loads((build / "compile_commands.json").read_text())
    found = {}
    for entry in database:
        path = Path(entry["directory"], entry["file"]).resolve()
        if path.suffix in (".cpp", ".c") and ROOT in path.parents and build not in path.parents:
            found[path] = "llvm-22/include" in entry["command"] or "cmake_pch" in entry["command"]
    return found


def fingerprint():
    """Digest of what every file's result depends on: the checks and the project's headers."""
    digest = hashlib.sha256((ROOT / ".clang-tidy").read_bytes())
    for folder in ("runtime", "dialect", "compiler", "templates", "tools", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".h", ".td"):
                digest.update(path.read_bytes())
    return digest.hexdigest()


def check(path, build, stamps, headers):
    stamp = stamps / hashlib.sha256(headers.encode() + str(path).encode() + path.read_bytes()).hexdigest()
    if stamp.exists():
        return True, ""
    # The precompiled header is clang's own; -Wno-... keeps flags that only g++ knows from failing a g++ build.
    result = subprocess.run([TIDY, "-p", str(build), "--quiet", "--extra-arg=-Wno-unknown-warning-option", str(path)],
                            capture_output=True, text=True)
    if result.returncode == 0:
        stamp.touch()
    return result.returncode == 0, result.stdout + (result.stderr if result.returncode else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--part", choices=["plain", "mlir", "all"], default="all")
    parser.add_argument("--seconds", type=float, help="start no further file after this time")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if not shutil.which(TIDY):
        sys.exit(f"{TIDY} is not installed; tools/setup.sh installs it")
    build = arguments.build.resolve()
    units = [path for path, mlir in translation_units(build).items()
             if arguments.part == "all" or mlir == (arguments.part == "mlir")]
    if not units:
        sys.exit(f"no translation unit of part '{arguments.part}' in {build}/compile_commands.json")
    units.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    stamps = build / "tidy"
    stamps.mkdir(exist_ok=True)
    headers = fingerprint()
    begin = time.monotonic()
    failed, unreached = [], []

    def work(path):
        name = path.relative_to(ROOT)
        if arguments.seconds and time.monotonic() - begin > arguments.seconds:
            unreached.append(str(name))
            return
        passed, output = check(path, build, stamps, headers)
        if not passed:
            failed.append(str(name))
            print(output, flush=True)

    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(work, units))
    print(f"clang-tidy: {len(units) - len(unreached)} of {len(units)} files checked, {len(failed)} failed")
    if failed:
        print("failed: " + " ".join(sorted(failed)))
    if unreached:
        print(f"NOT checked within {arguments.seconds:.0f} s: " + " ".join(sorted(unreached)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
