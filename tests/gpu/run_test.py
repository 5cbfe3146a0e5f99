#!/usr/bin/env python3
# tests/gpu/run.sh without a GPU: a `winnow` that only notes what it is asked for. Every part runs and is reported, a
# command that fails fails its part, and each alternative of a filter of cases is the name of some case. Standard
# library only. Usage: run_test.py WINNOW, whose cases these are.
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SUITE = Path(__file__).resolve().parent / "run.sh"
WINNOW = sys.argv.pop(1)

# One tool under many names. FAILS: words of a call that fails.
TOOL = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case " $* " in *${FAILS:-/nothing/}*) exit 1 ;; esac
case "$(basename "$0")" in
embed_c) echo 'the first output is 1 (a GPU gives 1)' ;;
engine_cpp) echo 'on GPU 0: a prompt' ;;
sweep) echo 'attention: measured for this problem on this GPU' ;;
python3) echo peer ;;
*) echo 'driver: none' ;;
esac
"""


class SuiteTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        for name in ("bin/winnow", "bin/compute-sanitizer", "bin/python3", "examples/embed_c/embed_c",
                     "examples/engine_cpp/engine_cpp", "examples/new_method/new_method", "examples/sweep/sweep"):
            tool = self.path / name
            tool.parent.mkdir(parents=True, exist_ok=True)
            tool.write_text(TOOL)
            tool.chmod(0o755)

    def tearDown(self):
        self.folder.cleanup()

    def suite(self, parts=None, fails=None):
        """Exit status, verdicts by part, and what was called."""
        environment = {"PATH": f"{self.path}/bin:{os.environ['PATH']}", "CALLS": str(self.path / "calls"), "EXAMPLES": str(self.path / "examples"),
                       **({"PARTS": parts} if parts else {}), **({"FAILS": fails} if fails else {})}
        (self.path / "calls").write_text("")
        run = subprocess.run(["bash", SUITE, self.path / "bin/winnow", self.path / "logs"], env=environment, capture_output=True, text=True, timeout=300)
        lines = [line.split() for line in run.stdout.splitlines() if re.match("pass|FAIL", line)]
        return run.returncode, {line[1]: line[0] for line in lines}, (self.path / "calls").read_text().splitlines()

    def test_every_part_runs(self):
        calls = []
        for parts, count in ((None, 14), ("backward", 2), ("further", 6), ("prepare", 1)):
            code, verdicts, called = self.suite(parts)
            self.assertEqual((code, set(verdicts.values())), (0, {"pass"}), verdicts)
            self.assertEqual(len(verdicts), count, verdicts)
            calls += called
        self.assertEqual(self.suite("nothing")[0], 1)
        for words in ("bench decode", "decode_peer.py", "bench decode --batch 16 --seq 131072 --layout pages --page-size 1 --page-run 64",
                      "soak --steps 1000 --kv-dtype fp8_e4m3", "--chunk", "--backward --device cuda --arch none",
                      "embed_c", "engine_cpp", "new_method", "sweep.jsonl"):
            self.assertTrue(any(words in call for call in calls), words)
        self.check_filters(calls)

    def check_filters(self, calls):
        flags = {" ".join(re.findall(r"--filter \S+|--large", call)) for call in calls if "--filter" in call}
        self.assertGreaterEqual(len(flags), 5, flags)
        for text in flags:
            pattern = re.search(r"--filter (\S+)", text)[1]
            large = ["--large"] if "--large" in text else []
            listed = subprocess.run([WINNOW, "check", "--list", *large, "--filter", pattern], capture_output=True, text=True)
            names = [line.split()[0] for line in listed.stdout.splitlines() if line]
            self.assertEqual(listed.returncode, 0, listed.stderr)
            self.assertTrue(names, text)
            for alternative in alternatives(pattern):
                self.assertTrue(any(re.search(alternative, name) for name in names), f"no case is {alternative}, of {text}")

    def test_what_fails_fails_its_part(self):
        for parts, fails in (("native", "check"), ("memcheck", "memcheck"), ("soak", "dense"), ("decode", "--page-run"), ("examples", "tune")):
            code, verdicts, _ = self.suite(parts, fails)
            self.assertEqual((code, verdicts), (1, {parts: "FAIL"}), fails)


def alternatives(pattern):
    """What the outermost alternatives of a regular expression are, those of a group that is all of it included."""
    whole = re.fullmatch(r"(\^?)\((.*)\)(.*)", pattern)
    front, body, back = whole.groups() if whole else ("", pattern, "")
    parts, depth = [""], 0
    for letter in body:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    for part in parts:
        inner = re.fullmatch(r"(\w*)\(([^()]*)\)(\w*)", part)
        if inner:
            yield from (front + inner[1] + word + inner[3] + back for word in inner[2].split("|"))
        else:
            yield front + part + back


if __name__ == "__main__":
    unittest.main()
