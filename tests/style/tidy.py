#!/usr/bin/env python3
# Runs clang-tidy 22 over every source file of a build folder, one process per core. Nearly all of the time goes into the
# headers that the files include, so files are read in groups (groups.py). A file that passed is not checked again until it, a
# project header or the checks change (stamps in BUILD/tidy).
# Entry: a configured build folder with its generated headers. Exit: status 1 if a group fails or a tool is missing.
import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from groups import groups

ROOT = Path(__file__).resolve().parents[2]
TIDY = "clang-tidy-22"
# Headers whose findings count, as .clang-tidy has it for editors; those of every source file do, which may be included here.
HEADERS = r"(autotune|compiler|dialect|runtime|templates|tests|tools)/[^.]*\.h"
PLACE = re.compile(r"^(/[^:\n]+):\d+:\d+: (?:warning|error): .*", re.MULTILINE)


def translation_units(build):
    """Every source file of the tree in the compilation database, and what may be read with it: files of the same folder and
    language that are compiled by the same commands."""
    kinds = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = Path(entry["directory"], entry["file"]).resolve()
        if ROOT in path.parents and build not in path.parents:
            words = shlex.split(entry["command"])
            output = words.index("-o") + 1
            command = [word for place, word in enumerate(words) if place != output and word != entry["file"]]
            kinds[path] = kinds.get(path, f"{path.relative_to(ROOT).parts[0]} {path.suffix}") + f" {command}"
    return dict(sorted(kinds.items()))


def fingerprint():
    """Digest of what every file's result depends on: the checks and the project's headers."""
    digest = hashlib.sha256((ROOT / ".clang-tidy").read_bytes() + (ROOT / "tests/.clang-tidy").read_bytes())
    for folder in ("runtime", "autotune", "emulator", "dialect", "compiler", "templates", "reference", "tools", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".h", ".td"):
                digest.update(path.read_bytes())
    return digest.hexdigest()


def stamp(path, build, headers):
    return build / "tidy" / hashlib.sha256(headers.encode() + str(path).encode() + path.read_bytes()).hexdigest()


def check(paths, build, headers):
    """Checks files as one translation unit: the last, which includes the others first. Returns a text for each failure."""
    stamps = [stamp(path, build, headers) for path in paths]  # of what is read now, whatever is edited meanwhile
    # A compilation database of g++ may hold warnings that clang does not know. Generated headers, whose findings nobody
    # wants, are read as the system's: most checks then pass them over, a third of the time of a file that has a dialect.
    extra = ["-Wno-unknown-warning-option", f"-isystem{build}"] + [f"-include{path}" for path in paths[:-1]]
    sources = "|".join(re.escape(str(path.relative_to(ROOT))) for path in paths)
    result = subprocess.run([TIDY, "-p", str(build), "--quiet", f"--header-filter=^{re.escape(str(ROOT))}/({HEADERS}|{sources})$",
                             f"--exclude-header-filter=^{re.escape(str(build))}/", *(f"--extra-arg={word}" for word in extra),
                             str(paths[-1])], capture_output=True, text=True)
    if result.returncode == 0:
        for path in stamps:
            path.touch()
        return []
    if len(paths) > 1 and (result.returncode < 0 or "[clang-diagnostic-error" in result.stdout):
        reason = PLACE.search(result.stdout)
        print(f"{len(paths)} files cannot be read as one, so in halves:", reason[0] if reason else result.stderr, flush=True)
        middle = len(paths) // 2
        return check(paths[:middle], build, headers) + check(paths[middle:], build, headers)
    return [f"{result.stdout}{result.stderr}{TIDY} ended with {result.returncode}: {' '.join(map(str, paths))}"]


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
    (build / "tidy").mkdir(exist_ok=True)
    headers = fingerprint()
    stale = {path: kind for path, kind in units.items() if not stamp(path, build, headers).exists()}
    failed, places = 0, set()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for failures in pool.map(lambda paths: check(paths, build, headers), groups(stale)):
            for text in failures:
                failed += 1
                places.update(os.path.relpath(place[1], ROOT) for place in PLACE.finditer(text))
                print(text, flush=True)
    print(f"clang-tidy: {len(units)} files, {len(stale)} of them checked now, {failed} failures: {' '.join(sorted(places))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
