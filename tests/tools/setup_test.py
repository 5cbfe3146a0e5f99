#!/usr/bin/env python3
# tools/setup.sh with an apt-get that plays the machine's: it waits for another apt, whichever lock that has, and says
# what is really wrong. Nothing is installed. Standard library only.
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SETUP = Path(__file__).resolve().parents[2] / "tools" / "setup.sh"

# Answers the n-th call with the n-th file of answers: its first line is the exit status, the rest what apt says.
APT = """#!/bin/sh
echo "$@" >>calls
n=$(($(cat count) + 1))
echo "$n" >count
[ -f "answers/$n" ] || { touch installed; exit 0; }
sed 1d "answers/$n" >&2
exit "$(head -n 1 "answers/$n")"
"""
DPKG_QUERY = """#!/bin/sh
[ ! -e installed ] || for package in "$@"; do echo "installed $package"; done
"""
SLEEP = """#!/bin/sh
echo "$1" >>slept
"""
LISTS = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 4711 (apt-get)\nE: Unable to lock directory /var/lib/apt/lists/"
DPKG = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 4712 (unattended-upgr)"
ARCHIVES = "E: Could not get lock /var/cache/apt/archives/lock. It is held by process 4713 (apt)"
RACE = "dpkg: error: dpkg frontend lock was locked by another process with pid 4714\nE: Sub-process /usr/bin/dpkg returned an error code (2)"


class SetupTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        (self.path / "tools").mkdir()
        shutil.copy(SETUP, self.path / "tools")
        (self.path / "answers").mkdir()
        (self.path / "count").write_text("0")
        for package in ("numpy", "pytest"):
            (self.path / ".venv/lib/python3.11/site-packages" / package).mkdir(parents=True)
        (self.path / "nvrtc.so").write_text("")
        (self.path / "bin").mkdir()
        for name, text in (("apt-get", APT), ("dpkg-query", DPKG_QUERY), ("sleep", SLEEP), ("id", "#!/bin/sh\necho 0\n")):
            program = self.path / "bin" / name
            program.write_text(text)
            program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def tearDown(self):
        self.folder.cleanup()

    def setup(self, *answers):
        """Status, words and the calls of apt-get, which gives these (exit status, text) and then succeeds."""
        for n, (code, text) in enumerate(answers):
            (self.path / "answers" / str(n + 1)).write_text(f"{code}\n{text}\n")
        environment = {"PATH": f"{self.path}/bin:/usr/bin:/bin", "WINNOW_NVRTC": f"{self.path}/nvrtc.so", "TMPDIR": str(self.path)}
        run = subprocess.run(["sh", str(self.path / "tools/setup.sh")], env=environment, capture_output=True, text=True, timeout=120)
        own = [line for line in run.stderr.splitlines() if line.startswith("setup: ")]
        calls = (self.path / "calls").read_text().splitlines() if (self.path / "calls").exists() else []
        left = [p.name for p in self.path.iterdir() if p.name.startswith("tmp.")]
        self.assertEqual(left, [])
        self.assertEqual(run.stdout, "")
        return run.returncode, own, calls

    def test_nothing_is_installed_where_nothing_is_missing(self):
        (self.path / "installed").touch()
        # The fake dpkg-query cannot know the names that were asked for: it repeats them.
        code, words, calls = self.setup()
        self.assertEqual((code, words, calls), (0, [], []))

    def test_missing_packages_are_installed(self):
        code, words, calls = self.setup()
        self.assertEqual(code, 0)
        self.assertEqual([call.split()[1] for call in calls], ["update", "install"])
        self.assertEqual(len(words), 1)

    def test_every_lock_of_another_apt_is_waited_for(self):
        code, words, calls = self.setup((100, LISTS), (100, LISTS), (0, "Hit:1"), (100, DPKG), (100, ARCHIVES), (100, RACE))
        self.assertEqual(code, 0, words)
        self.assertEqual([call.split()[1] for call in calls], ["update"] * 3 + ["install"] * 4)
        self.assertIn("waiting for process 4711 (apt-get)", words[1])
        self.assertIn("waiting for process 4712 (unattended-upgr)", words[2])
        self.assertEqual(len(words), 3)
        self.assertEqual((self.path / "slept").read_text().split(), ["5"] * 5)

    def test_the_wait_has_an_end(self):
        code, words, calls = self.setup(*[(100, LISTS)] * 500)
        self.assertEqual(code, 1)
        self.assertIn("process 4711 (apt-get) has been installing packages for over 10 minutes", words[-1])
        self.assertEqual(len(calls), 121)

    def test_what_is_wrong_is_said(self):
        locate = (100, "E: Unable to locate package libmlir-22-dev")
        for answers, expected in (
                ([(0, "Hit:1"), locate], "bookworm-security"),
                ([(0, "W: Failed to fetch http://deb.debian.org/  Temporary failure resolving 'deb.debian.org'"), locate], "network"),
                ([(100, "E: The repository 'http://x' does not have a Release file.\nErr:1 Could not resolve 'x'")], "network"),
                ([(100, "E: dpkg was interrupted, you must manually run 'sudo dpkg --configure -a' to correct the problem.")], "dpkg --configure -a"),
                ([(0, "Hit:1"), (100, "E: You don't have enough free space in /var/cache/apt/archives/.")], "disk is full"),
                ([(0, "Hit:1"), (100, "E: Unable to correct problems, you have held broken packages.")], "held broken packages")):
            with self.subTest(expected=expected):
                (self.path / "count").write_text("0")
                (self.path / "calls").unlink(missing_ok=True)
                for old in (self.path / "answers").iterdir():
                    old.unlink()
                code, words, calls = self.setup(*answers)
                self.assertEqual(code, 1)
                self.assertIn(expected, words[-1])
                self.assertEqual(len(words), 2)


if __name__ == "__main__":
    unittest.main()
