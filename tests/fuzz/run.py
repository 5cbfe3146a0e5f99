#!/usr/bin/env python3
# Runs harnesses of tests/fuzz: each over its seeds and what it found before, then for SECONDS with new inputs. Inputs
# that reach new code are kept in BUILD/fuzz/corpus/NAME, those that fail in BUILD/fuzz/findings.
# Entry: a build folder in which the target `fuzz` was built. Exit: a line per harness with its executions and findings on
# stdout; status 1 if one has a finding, has no seeds that its parser accepts, or did not run. Standard library only.
import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Past these an input is a finding: seconds for one input, MiB that the process holds, MiB of one allocation.
LIMITS = ["-timeout=20", "-rss_limit_mb=2048", "-malloc_limit_mb=1024"]

# Harnesses that read what another one reads.
SAME_INPUTS = {"report": "tuned_lines", "tuning_file": "tuned_lines"}


def run(name, build, seconds):
    """Runs one harness; the line that reports it, and whether it was clean."""
    corpus, findings = build / "fuzz" / "corpus" / name, build / "fuzz" / "findings"
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    inputs = SAME_INPUTS.get(name, name)
    seeds = HERE / "seeds" / inputs
    if not seeds.is_dir() or not any(seeds.iterdir()):
        return f"{name}: no seeds in {seeds}", False
    harness = build / "bin" / f"fuzz_{name}"
    if not harness.exists():
        return f"{name}: {harness} is not built; `ninja -C {build} fuzz` builds it", False
    dictionary = HERE / f"{inputs}.dict"
    log = build / "fuzz" / f"{name}.log"
    # A format that has moved on leaves seeds that test nothing but its first refusal.
    over_seeds = subprocess.run([harness, *LIMITS, "-runs=0", f"-artifact_prefix={findings}/{name}-", seeds],
                                capture_output=True, text=True, errors="replace", cwd=build / "fuzz")
    if over_seeds.returncode == 0 and not re.search(r"^fuzz: \d+ inputs accepted$", over_seeds.stderr, re.MULTILINE):
        return f"{name}: its parser accepts none of the seeds in {seeds}; make them anew", False
    command = [harness, *LIMITS, f"-max_total_time={seconds}", "-seed=1", "-print_final_stats=1",
               "-max_len=65536", f"-artifact_prefix={findings}/{name}-"]
    command += [f"-dict={dictionary}"] if dictionary.exists() else []
    with open(log, "w", encoding="utf-8", errors="replace") as output:
        status = subprocess.run([*command, corpus, seeds], stdout=output, stderr=subprocess.STDOUT, cwd=build / "fuzz").returncode
    text = log.read_text(encoding="utf-8", errors="replace")
    executions = re.search(r"stat::number_of_executed_units:\s*(\d+)", text)
    failing = re.findall(r"Test unit written to (\S+)", text)
    line = f"{name}: {executions.group(1) if executions else 'unknown number of'} executions, {len(failing)} findings"
    if status == 0 and executions and not failing:
        return line, True
    end = "\n".join(text.splitlines()[-60:])
    return f"{line}: {' '.join(failing)} (status {status}, log in {log})\n{end}", False


def main():
    parser = argparse.ArgumentParser(description="Runs fuzz harnesses.")
    parser.add_argument("names", nargs="*", help="harnesses; default: all that were built")
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    names = arguments.names or sorted(path.name.removeprefix("fuzz_") for path in (arguments.build / "bin").glob("fuzz_*"))
    if not names:
        sys.exit(f"no harness in {arguments.build}/bin; `ninja -C {arguments.build} fuzz` builds them")
    clean = True
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for line, passed in pool.map(lambda name: run(name, arguments.build.resolve(), arguments.seconds), names):
            print(line, flush=True)
            clean = clean and passed
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
