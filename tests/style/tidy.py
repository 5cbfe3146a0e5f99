#!/usr/bin/env python3
# Runs clang-tidy 22 over every translation unit of a build folder, one per core. A file that passed is not checked again
# until it, a project header or the checks change (stamps in BUILD/tidy).
# Entry: a configured build folder with its generated headers. Exit: status 1 if a file fails or a tool is missing.
import argparse
import concurrent.futures
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIDY = "clang-tidy-22"


def translation_units(build):
    """Every source file of the tree in the compilation database."""
    database = json.loads((build / "compile_commands.json").read_text())
    paths = {Path(entry["directory"], entry["file"]).resolve() for entry in database}
    return sorted(path for path in paths if ROOT in path.parents and build not in path.parents)


def fingerprint():
    """Digest of what every file's result depends on: the checks and the project's headers."""
    digest = hashlib.sha256((ROOT / ".clang-tidy").read_bytes() + (ROOT / "tests/.clang-tidy").read_bytes())
    for folder in ("runtime", "autotune", "emulator", "dialect", "compiler", "templates", "reference", "tools", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".h", ".td"):
                digest.update(path.read_bytes())
    return digest.hexdigest()


def check(path, build, stamps, headers):
    stamp = stamps / hashlib.sha256(headers.encode() + str(path).encode() + path.read_bytes()).hexdigest()
    if stamp.exists():
        return True, ""
    # A compilation database of g++ may hold warnings that clang does not know. Generated headers, whose findings nobody
    # wants, are read as the system's: most checks then pass them over, a third of the time of a file that has a dialect.
    result = subprocess.run([TIDY, "-p", str(build), "--quiet", "--extra-arg=-Wno-unknown-warning-option",
                             f"--extra-arg=-isystem{build}", str(path)], capture_output=True, text=True)
    if result.returncode == 0:
        stamp.touch()
    return result.returncode == 0, result.stdout + (result.stderr if result.returncode else "")


def main():
    parser = argparse.ArgumentParser(description="Runs clang-tidy over a build folder's source files.")
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if not shutil.which(TIDY):
        sys.exit(f"{TIDY} is not installed; tools/setup.sh installs it")
    build = arguments.build.resolve()
    units = translation_units(build)
    if not units:
        sys.exit(f"no source file of this tree in {build}/compile_commands.json")
    stamps = build / "tidy"
    stamps.mkdir(exist_ok=True)
    headers = fingerprint()
    failed = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for path, (passed, output) in zip(units, pool.map(lambda p: check(p, build, stamps, headers), units)):
            if not passed:
                failed.append(str(path.relative_to(ROOT)))
                print(output, flush=True)
    print(f"clang-tidy: {len(units)} files checked, {len(failed)} failed: {' '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
