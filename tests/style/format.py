#!/usr/bin/env python3
# Compares every C++ and device file with clang-format 22 and names those that differ; --fix rewrites them
# (`make format`). Entry: a source tree. Exit: status 1 if a file differs, or if clang-format-22 is not there.
import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = {".cpp", ".h", ".c", ".cuh"}  # golden .cu files are the printer's own text
FORMATTER = "clang-format-22"


def sources():
    sys.path.insert(0, str(ROOT / "tests" / "layering"))
    from layering import source_files
    return [path for path in source_files(ROOT) if Path(path).suffix in SUFFIXES]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fix", action="store_true", help="rewrite the files")
    arguments = parser.parse_args()
    if not shutil.which(FORMATTER):
        sys.exit(f"{FORMATTER} is not installed; tools/setup.sh installs it")
    files = sources()
    if not files:
        sys.exit("no source file found")
    if arguments.fix:
        return subprocess.run([FORMATTER, "-i", *files], cwd=ROOT).returncode
    differing = []
    for path in files:
        formatted = subprocess.run([FORMATTER, path], cwd=ROOT, capture_output=True, check=True).stdout
        if formatted != (ROOT / path).read_bytes():
            differing.append(path)
            print(f"{path}: differs from clang-format's; `make format` rewrites it")
    print(f"format: {len(differing)} of {len(files)} files differ", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
