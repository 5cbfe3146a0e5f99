#!/usr/bin/env python3
# Puts the faults of tests/mutation/*.patch into the tree, one at a time, and asks the tests that should notice. A patch
# begins with lines that say what it breaks, its kind, and who notices:
#   Breaks: one sentence
#   Kind: off by one, swapped arguments, ...
#   Notice: gtest BINARY FILTER            bin/BINARY --gtest_filter=FILTER
#   Notice: check emulated:sm_80 FILTER    winnow check --device emulated --arch sm_80 --filter FILTER
#   Notice: check cpu FILTER               the same on the CPU; further flags may follow
#   Notice: ctest REGEX                    CTest cases; needs a line `Build:` with the targets of ninja
#   Survives: why nobody can notice        a fault without an effect; it counts as survived all the same
# Entry: git, and for a fresh work folder what tools/setup.sh installs. Work is done in a clone of the last commit with a
# build folder of its own (--work), or with --in-place in this tree and its build folder. Every test that is named must
# pass before the first fault goes in. Exit: a line per fault and the share noticed on stdout, RESULTS with a JSON object
# a line, from which a run that was broken off goes on; status 1 where a patch is broken or a test fails without a fault.
# Standard library only.
import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FIELDS = ("Breaks", "Kind", "Notice", "Build", "Survives")
BEGIN, END = "<!-- mutation:begin -->", "<!-- mutation:end -->"
LEAST_LIMIT = 60  # seconds that a test may take, whatever it took without a fault


class Broken(Exception):
    """A patch, or a tree, that cannot be used."""


class Mutant:
    def __init__(self, path):
        self.path, self.name = path, path.stem
        text = path.read_text(encoding="utf-8")
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.fields = {field: [] for field in FIELDS}
        for line in text.split("\n--- ", 1)[0].splitlines():
            field, colon, value = line.partition(": ")
            if colon and field in self.fields:
                self.fields[field].append(value.strip())
        changed = re.search(r"^\+\+\+ b/(\S+)", text, re.MULTILINE)
        if not changed or not self.fields["Breaks"] or not self.fields["Kind"] or not self.fields["Notice"]:
            raise Broken(f"{path.name}: a diff and the lines Breaks, Kind and Notice are needed")
        self.file = changed.group(1)

    def line(self, field):
        return " ".join(self.fields[field])

    @property
    def folder(self):
        parts = self.file.split("/")
        return "/".join(parts[:2]) if parts[0] in ("compiler", "tests") and len(parts) > 2 else parts[0]

    def targets(self):
        targets = set(self.line("Build").split())
        for notice in self.fields["Notice"]:
            kind, *words = notice.split()
            if kind == "gtest":
                targets.add(words[0])
            elif kind == "check":
                targets |= {"winnow", "winnow_emulator"} if words[0].startswith("emulated") else {"winnow"}
        return targets


def command(notice, build):
    """The command line of a line `Notice`, without a shell."""
    kind, *words = notice.split()
    if kind == "gtest" and len(words) == 2:
        return [str(build / "bin" / words[0]), f"--gtest_filter={words[1]}", "--gtest_brief=1", "--gtest_fail_fast"]
    if kind == "check" and len(words) >= 2:
        device, _, arch = words[0].partition(":")
        return [str(build / "bin" / "winnow"), "check", "--device", device, *(["--arch", arch] if arch else []), "--filter",
                words[1], *words[2:]]
    if kind == "ctest" and len(words) == 1:
        return ["ctest", "--test-dir", str(build), "-R", words[0], "--no-tests=error"]
    raise Broken(f"not understood: Notice: {notice}")


class Tree:
    """A tree that faults go into, with its build folder."""

    def __init__(self, root, build, jobs):
        self.root, self.build, self.jobs = root, build, jobs
        self.mark = build / "mutation-applied.patch"  # what a run that was killed has left in the tree
        if self.mark.exists():
            self.git_apply(self.mark, "--reverse")
            self.mark.unlink()

    def git_apply(self, patch, *flags):
        result = subprocess.run(["git", "apply", *flags, str(patch)], cwd=self.root, capture_output=True, text=True)
        if result.returncode != 0:
            raise Broken(result.stderr.strip().replace("\n", "; "))

    def make(self, targets):
        result = subprocess.run(["ninja", "-C", str(self.build), "-j", str(self.jobs), *sorted(targets)], capture_output=True,
                                text=True)
        return result.returncode == 0, (result.stdout + result.stderr)[-3000:]

    def test(self, notice, limit):
        """passed, failed or timeout; seconds; the end of what the test said."""
        begin = time.monotonic()
        process = subprocess.Popen(command(notice, self.build), cwd=self.root, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            output, _ = process.communicate(timeout=limit)
            outcome = "passed" if process.returncode == 0 else "failed"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            outcome = "timeout"
        text = output.decode("utf-8", "replace")
        if outcome == "passed" and re.search(r"\b0 tests from 0 test suites ran", text):
            outcome = "failed"
        return outcome, time.monotonic() - begin, text[-2000:]

    def run(self, mutant, baseline):
        """noticed, survived, does not build or timeout, and by whom."""
        self.git_apply(mutant.path, "--check")
        self.mark.write_bytes(mutant.path.read_bytes())
        try:
            self.git_apply(mutant.path)
            built, log = self.make(mutant.targets())
            if not built:
                return "does not build", log
            for notice in mutant.fields["Notice"]:
                outcome, _, log = self.test(notice, max(LEAST_LIMIT, 10 * baseline[notice]))
                if outcome != "passed":
                    return ("noticed" if outcome == "failed" else "timeout"), notice
            return "survived", ""
        finally:
            self.git_apply(mutant.path, "--reverse")
            self.mark.unlink()


def clone(work):
    """A clone of the last commit in WORK/tree, as it was left by an earlier run or new, and its build folder."""
    tree = work / "tree"
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()
    if not tree.exists():
        work.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "clone", "--quiet", "--shared", str(ROOT), str(tree)], check=True)
    subprocess.run(["git", "fetch", "--quiet", "origin", head], cwd=tree, check=True)
    subprocess.run(["git", "checkout", "--quiet", "--force", "--detach", head], cwd=tree, check=True)
    if not (tree / "build" / "build.ninja").exists():
        subprocess.run([str(tree / "tools" / "configure.sh"), "build"], check=True, stdout=subprocess.DEVNULL)
    return tree


class Results:
    """The file of results: what is known for this state of the tree and of a patch."""

    def __init__(self, path, revision, older):
        self.path, self.revision, self.known, self.baseline = path, revision, {}, {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # cut off
                if entry.get("revision") != revision and not older:
                    continue
                if "test" in entry:
                    self.baseline[entry["test"]] = entry["seconds"]
                else:
                    self.known[entry["digest"]] = entry

    def add(self, entry):
        entry["revision"] = self.revision
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def state_of(root):
    """Names what is tested: the last commit and what differs from it, the patches themselves aside."""
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=root)
    changes = subprocess.check_output(["git", "diff", "HEAD", "--", ":!tests/mutation", ":!docs"], cwd=root)
    return hashlib.sha256(head + changes).hexdigest()[:16]


def check_baseline(tree, mutants, results):
    notices = sorted({notice for mutant in mutants for notice in mutant.fields["Notice"]})
    missing = [notice for notice in notices if notice not in results.baseline]
    if not missing:
        return
    built, log = tree.make(set().union(*(mutant.targets() for mutant in mutants)))
    if not built:
        raise Broken("the tree does not build without a fault:\n" + log)
    for notice in missing:
        outcome, seconds, log = tree.test(notice, 1800)
        if outcome != "passed":
            raise Broken(f"without a fault, {notice}: {outcome}\n{log}")
        results.baseline[notice] = seconds
        results.add({"test": notice, "seconds": round(seconds, 2)})


def tables(entries):
    """The share noticed, by kind and by folder, and the survivors, as Markdown."""
    def counts(key):
        groups = {}
        for entry in entries:
            groups.setdefault(entry[key], []).append(entry["outcome"])
        lines = [f"| {key} | faults | noticed | survived |", "|---|---|---|---|"]
        for name, outcomes in sorted(groups.items()):
            noticed = sum(outcome in ("noticed", "timeout") for outcome in outcomes)
            lines.append(f"| {name} | {len(outcomes)} | {noticed} | {len(outcomes) - noticed} |")
        return lines

    noticed = sum(entry["outcome"] in ("noticed", "timeout") for entry in entries)
    lines = [f"{noticed} of {len(entries)} faults were noticed ({100 * noticed / max(1, len(entries)):.1f} %), "
             f"{sum(entry['outcome'] == 'timeout' for entry in entries)} of them by a test that did not end.", ""]
    lines += counts("kind") + [""] + counts("folder") + [""]
    survivors = [entry for entry in entries if entry["outcome"] not in ("noticed", "timeout")]
    if survivors:
        lines += ["| survived | what it breaks | why nobody notices |", "|---|---|---|"]
        lines += [f"| {entry['name']} | {entry['breaks']} | {entry['survives'] or entry['outcome']} |" for entry in survivors]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="Puts faults into the tree and asks the tests.")
    parser.add_argument("--only", default=".", metavar="REGEX", help="faults whose name or file matches")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that compile at the same time")
    parser.add_argument("--work", type=Path, default=ROOT / "build-mutation", help="folder of the clone and its build folder")
    parser.add_argument("--in-place", action="store_true", help="work in this tree, with its build folder")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="with --in-place: the build folder")
    parser.add_argument("--results", type=Path, help="default: results.jsonl in the build or work folder")
    parser.add_argument("--again", action="store_true", help="run what has a result already, too")
    parser.add_argument("--older", action="store_true",
                        help="results of other states of the tree count too: where tests were only added since")
    parser.add_argument("--page", type=Path, help="put the tables between the marks of this page")
    parser.add_argument("--list", action="store_true", help="only list the faults, and whether their patches apply")
    arguments = parser.parse_args()
    mutants, clean = [], True
    for path in sorted(HERE.glob("*.patch")):
        mutant = Mutant(path)
        if re.search(arguments.only, mutant.name) or re.search(arguments.only, mutant.file):
            mutants.append(mutant)
    if not mutants:
        raise Broken(f"no fault matches {arguments.only}")
    if arguments.list:
        for mutant in mutants:
            applies = subprocess.run(["git", "apply", "--check", str(mutant.path)], cwd=ROOT, capture_output=True)
            clean &= applies.returncode == 0
            print(f"{mutant.name} ({mutant.file}): {mutant.line('Breaks')}" + ("" if applies.returncode == 0 else
                                                                               "  DOES NOT APPLY"))
        return 0 if clean else 1
    root = ROOT if arguments.in_place else clone(arguments.work.resolve())
    build = arguments.build.resolve() if arguments.in_place else root / "build"
    tree = Tree(root, build, arguments.jobs)
    results = Results(arguments.results or (build if arguments.in_place else arguments.work) / "mutation-results.jsonl",
                      state_of(root), arguments.older)
    begin = time.monotonic()
    check_baseline(tree, mutants, results)
    entries = []
    for mutant in mutants:
        entry = results.known.get(mutant.digest)
        if not entry or arguments.again:
            started = time.monotonic()
            try:
                outcome, by = tree.run(mutant, results.baseline)
            except Broken as fault:
                outcome, by = "does not apply", str(fault)
            entry = {"name": mutant.name, "file": mutant.file, "folder": mutant.folder, "kind": mutant.line("Kind"),
                     "breaks": mutant.line("Breaks"), "survives": mutant.line("Survives"), "digest": mutant.digest,
                     "outcome": outcome, "by": by, "seconds": round(time.monotonic() - started, 1)}
            results.add(entry)
        clean &= entry["outcome"] in ("noticed", "timeout", "survived")
        entries.append(entry)
        print(f"{entry['name']}: {entry['outcome']}{' by ' + entry['by'] if entry['outcome'] == 'noticed' else ''} "
              f"({entry['seconds']} s)", flush=True)
        if entry["outcome"].startswith("does not"):
            print(entry["by"], flush=True)
    text = tables(entries)
    print("\n" + text)
    print(f"\n{time.monotonic() - begin:.0f} s now, {sum(entry['seconds'] for entry in entries):.0f} s for all faults")
    if arguments.page:
        page = arguments.page.read_text(encoding="utf-8")
        head, found, rest = page.partition(BEGIN)
        if not found or END not in rest:
            raise Broken(f"{arguments.page} lacks {BEGIN} and {END}")
        arguments.page.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0 if clean else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through `finally`: the fault is taken back
    try:
        sys.exit(main())
    except Broken as fault:
        sys.exit(f"mutate.py: {fault}")
