#!/usr/bin/env python3
# Many processes that start together on a cold cache and want the same programs, against one process alone (faults F01,
# F07): no error, one entry per program, and not much more time, since each takes what no other is compiling.
# Entry: the winnow binary. Exit: figures on stdout; status 1 if anything is wrong or the time is above --at-most times
# that of one process.
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def spec_list(count, method, arch):
    """`count` different programs."""
    return [{"method": method, "arch": arch, "head_dim": (64, 128)[i % 2], "topk": 96 - i // 2} for i in range(count)]


def run(arguments, cache, processes):
    """Starts all at once; seconds until the last one ends, and what went wrong."""
    environment = dict(os.environ, WINNOW_CACHE_DIR=str(cache))
    begin = time.monotonic()
    children = [subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for _ in range(processes)]
    faults = []
    for child in children:
        out, err = child.communicate()
        # Who waits for another process says so after two seconds; that is all that may be said.
        said = [line for line in err.splitlines() if "waiting for " not in line]
        if child.returncode or said:
            faults.append(f"exit code {child.returncode}: {err or out}")
    return time.monotonic() - begin, faults


def main():
    parser = argparse.ArgumentParser(description="Times a cold start of many processes.")
    parser.add_argument("winnow", type=Path)
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument("--programs", type=int, default=8)
    parser.add_argument("--method", default="infllm_v2")
    parser.add_argument("--arch", default="sm_90a")
    parser.add_argument("--at-most", type=float, default=2.5, help="times one process's time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="winnow-cold-") as folder:
        specs = Path(folder, "specs.json")
        specs.write_text(json.dumps(spec_list(options.programs, options.method, options.arch)))
        command = [str(options.winnow), "--json", "prepare", str(specs)]
        alone, faults = run(command, Path(folder, "alone"), 1)
        together, more = run(command, Path(folder, "together"), options.processes)
        faults += more
        entries = sorted(p.name for p in Path(folder, "together").iterdir() if p.name != ".lock")
        if entries != sorted(p.name for p in Path(folder, "alone").iterdir() if p.name != ".lock"):
            faults.append(f"other entries than one process alone makes: {entries}")
        again, more = run(command, Path(folder, "together"), options.processes)
        faults += more
    print(f"{options.programs} programs: {alone:.1f} s in one process, {together:.1f} s in {options.processes} "
          f"({together / alone:.2f} times), {again:.1f} s in {options.processes} on the warm cache")
    if together > options.at_most * alone:
        faults.append(f"more than {options.at_most} times the time of one process")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
