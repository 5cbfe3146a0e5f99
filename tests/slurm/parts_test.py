#!/usr/bin/env python3
# Tests what the Slurm test stands on, without Slurm: that no process outlives its keeper, and that the scripts of
# examples/slurm pass on what they are given and refuse an array that would leave shards out.
# Entry: Linux. Exit: unittest's status.
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from contained import Contained, descendants

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "slurm"
# A daemon whose child leaves its session and its parent, as a step daemon of Slurm does; both ignore SIGTERM.
LEAVES = ["sh", "-c", "trap '' TERM; (setsid sleep 600 &) ; sleep 600"]


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited 20 s in vain")
        time.sleep(0.02)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Processes(unittest.TestCase):
    def test_stop_leaves_nothing(self):
        daemon = Contained(LEAVES, os.devnull, os.environ)
        until(lambda: len(daemon.processes()) == 3)
        processes = daemon.processes()
        self.assertTrue(daemon.running())
        daemon.stop()
        self.assertEqual([pid for pid in processes if alive(pid)], [])
        self.assertFalse(daemon.running())

    def test_end_of_the_daemon_is_seen(self):
        daemon = Contained(["sh", "-c", "(setsid sleep 600 &)"], os.devnull, os.environ)
        until(lambda: not daemon.running())
        daemon.stop()

    def test_missing_program_is_logged(self):
        with tempfile.NamedTemporaryFile("r") as log:
            daemon = Contained(["/nowhere/daemon"], log.name, os.environ)
            until(lambda: not daemon.running())
            self.assertIn("/nowhere/daemon", log.read())

    def test_death_of_the_test_leaves_nothing(self):
        code = (f"import os, time; from contained import Contained; Contained({LEAVES!r}, os.devnull, os.environ)\n"
                "time.sleep(600)")
        test = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent)
        until(lambda: len(descendants(test.pid)) == 4)
        processes = descendants(test.pid)
        test.send_signal(signal.SIGKILL)
        test.wait()
        until(lambda: not any(alive(pid) for pid in processes))


class Scripts(unittest.TestCase):
    def submit(self, script, *arguments, **variables):
        """Runs a script as Slurm would, with a winnow that prints its arguments one a line."""
        with tempfile.TemporaryDirectory() as folder:
            winnow = Path(folder) / "winnow"
            winnow.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
            winnow.chmod(0o755)
            for shard in ("shard-0.jsonl", "shard-1.jsonl", "tuned.jsonl"):
                (Path(folder) / shard).touch()
            environment = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", **variables}
            return subprocess.run(["sh", str(EXAMPLES / script), *arguments], cwd=folder, env=environment,
                                  capture_output=True, text=True)

    def array(self, task, first, last, count):
        names = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_COUNT")
        return dict(zip(names, map(str, (task, first, last, count))))

    def test_tune(self):
        result = self.submit("tune.sbatch", "a b.json", "out/x", "--worker", "c d", **self.array(3, 0, 7, 8))
        self.assertEqual(result.stdout.splitlines(), [
            "tune", "a b.json", "--shard", "3/8", "--db", "out/x/shard-3.jsonl", "--resume", "--worker", "c d"], result)

    def test_merge(self):
        result = self.submit("merge.sbatch", ".")
        self.assertEqual(result.stdout.splitlines(), [
            "db", "merge", "./shard-0.jsonl", "./shard-1.jsonl", "-o", "./tuned.jsonl"], result)

    def test_partial_arrays_are_refused(self):
        for task, first, last, count in ((3, 3, 3, 1), (1, 1, 8, 8), (0, 0, 6, 4)):
            with self.subTest(first=first, last=last):
                result = self.submit("tune.sbatch", "a.json", "out", **self.array(task, first, last, count))
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertIn("whole array", result.stderr)

    def test_missing_arguments_are_refused(self):
        for script, arguments, variables, words in (
                ("tune.sbatch", ["a.json"], self.array(0, 0, 7, 8), "usage: sbatch --array"),
                ("tune.sbatch", ["a.json", "out"], {}, "submit with --array"),
                ("merge.sbatch", [], {}, "usage: sbatch --dependency")):
            with self.subTest(script=script, arguments=arguments):
                result = self.submit(script, *arguments, **variables)
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertIn(words, result.stderr)


if __name__ == "__main__":
    unittest.main()
