#!/usr/bin/env python3
# Every command with every flag set to each of: empty, 0, -1, 2^31, 2^63, NaN, a path that is no UTF-8, a directory, a
# device, a FIFO. Commands and flags are those that --help names, so a new flag is covered once it exists. Each run must
# end by itself, with exit code 0 to 5 and at most two lines on stderr, and harm no file: nodes stay nodes, what was there
# keeps its content, nothing is written outside of the scratch folder. A flag that takes a number must say its range.
# Entry: the winnow binary. Exit: one line per fault on stdout; status 1 if there is any. Standard library only.
import argparse
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SECONDS = 20  # for one run; the slowest take well below one
SENTINEL = b"this file was here before\n"
# What a command is run with beside the flag under test: quick, without a GPU, and working by itself.
SPEC = {"--heads": "2", "--kv-heads": "1", "--head-dim": "64", "--block": "16", "--topk": "3"}
BASES = {
    "compile": (["dense"], {"--arch": "sm_80", "--emit": "select", **SPEC}),
    "run": (["moba"], {"--device": "cpu", "--arch": "none", "--seq": "64", "--no-dense": None, **SPEC}),
    "check": ([], {"--device": "cpu", "--filter": "^nothing_at_all$"}),
    "bench": (["prefill"], {"--prepare": None, "--arch": "sm_80", **SPEC}),
    "bench table": (["bench.json"], {}),
    "bench decode": ([], {"--prepare": None, "--arch": "sm_80", "--queries": "1", "--seq": "64", **SPEC}),
    "bench backward": ([], {"--prepare": None, "--arch": "sm_80", "--seq": "64", **SPEC}),
    "bench crossing": ([], {"--prepare": None, "--arch": "sm_80", "--set": "dense_len=auto",
                            **SPEC, "--topk": "34"}),
    "soak": ([], {"--prepare": None, "--arch": "sm_80", "--queries": "1", "--seq": "64", **SPEC}),
    "soak backward": ([], {"--prepare": None, "--arch": "sm_80", **SPEC}),
    "model choose": (["dense"], {"--device-profile": "a100", "--space": "quick", "--db": "chosen.jsonl"}),
    "model check": (["trials.jsonl"], {"--device-profile": "h200", "--worst": "1000", "--median": "1000"}),
    "model explain": (["dense"], {"--device-profile": "a100"}),
    "tune": (["dense"], {"--list": None}),
    "report": (["trials.jsonl"], {"-o": "page.html"}),
    "methods": ([], {}),
    "tunables": ([], {}),
    "doctor": ([], {}),
    "prepare": (["dense"], {"--arch": "sm_80", **SPEC}),
    "cache ls": ([], {}),
    "cache stat": ([], {}),
    "cache verify": ([], {}),
    "cache gc": ([], {}),
    "cache clear": ([], {}),
    "cache export": (["kernels.bundle"], {}),
    "cache import": (["made.bundle"], {}),
    "cache why-miss": (["dense"], {"--arch": "sm_80", **SPEC}),
    "db ls": ([], {}),
    "db show": (["attend"], {"--db": "tuned.jsonl"}),
    "db diff": (["tuned.jsonl", "trials.jsonl"], {}),
    "db merge": (["tuned.jsonl"], {"-o": "merged.jsonl"}),
    "db export": (["tuned.jsonl"], {"-o": "exported.jsonl"}),
    "db import": (["tuned.jsonl"], {}),
    "db verify": (["tuned.jsonl"], {}),
    "db lookup": (["dense"], {"--arch": "sm_80"}),
}
BENCH = (b'{"device": "d", "driver": "v", "date": "2026-11-28", "program": "p", "rounds": 1, "checked": true, "peak_tflops": 1,'
         b' "results": [], "peers": []}')
# Flags that mean something only beside others, or in another mode of their command.
BESIDE = {
    ("tune", "--db"): {"--list": False},
    ("tune", "--ptx"): {"--arch": "sm_80"},
    ("compile", "-o"): {"--emit": "select"},
    ("compile", "--print-key"): {"--emit": False},
    ("check", "--random"): {"--filter": False},
    ("check", "--seed"): {"--filter": False, "--random": "1", "--list": None},
    **{("run", flag): {"--seq": False, "--q": "q.npy", "--k": "kv.npy", "--v": "kv.npy"}
       for flag in ("--q", "--k", "--v", "--cu-seqlens", "--cu-seqlens-k", "--use-ids")},
}


def npy(*shape):
    """A NumPy file of float32 zeros."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    count = 1
    for extent in shape:
        count *= extent
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(4 * count)


def first_lines(path, count):
    with path.open("rb") as file:
        return b"".join(line for line, _ in zip(file, range(count)))


class Scratch:
    """A folder with everything that one run after the other may read, and whose harm is found."""

    def __init__(self, folder, winnow, with_nodes):
        self.folder, self.winnow, self.with_nodes = folder, winnow, with_nodes
        self.work = folder / "work"
        for name in ("home", "tmp", "made"):
            (folder / name).mkdir(parents=True)
        self.environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CUDA_HOME",
                                                                "WINNOW_NVRTC") if name in os.environ}
        self.environment.update(HOME=str(folder / "home"), TMPDIR=str(folder / "tmp"),
                                WINNOW_CACHE_DIR=str(folder / "cache"), WINNOW_LIBCUDA="/nowhere/libcuda.so")
        root = Path(__file__).parent.parent.parent
        self.inputs = {"trials.jsonl": first_lines(root / "tests" / "autotune" / "trials_80.jsonl", 8),
                       "tuned.jsonl": first_lines(root / "autotune" / "db" / "h200.jsonl", 4),
                       "q.npy": npy(32, 2, 64), "kv.npy": npy(32, 1, 64), "bench.json": BENCH}
        self.fill()
        for words in (["prepare", "dense", "--arch", "sm_80", *(w for pair in SPEC.items() for w in pair)],
                      ["bench", "prefill", *flag_words(BASES["bench"][1])],
                      ["bench", "decode", *flag_words(BASES["bench decode"][1])],
                      ["bench", "backward", *flag_words(BASES["bench backward"][1])],
                      ["bench", "crossing", *flag_words(BASES["bench crossing"][1])], ["cache", "export", "../made/made.bundle"]):
            made = self.run(words, 120)
            if made.returncode:
                sys.exit(f"{words}: exit code {made.returncode}: {made.stderr.decode(errors='replace')}")
        self.inputs["made.bundle"] = (folder / "made" / "made.bundle").read_bytes()
        shutil.copytree(folder / "cache", folder / "cache.kept")
        self.refill()

    def fill(self):
        self.work.mkdir()
        for name, content in self.inputs.items():
            (self.work / name).write_bytes(content)
        (self.work / "folder").mkdir()
        (self.work / "folder" / "sentinel").write_bytes(SENTINEL)
        os.mkfifo(self.work / "fifo")
        if self.with_nodes:
            os.mknod(self.work / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        self.names = set(os.listdir(self.work))

    def refill(self):
        shutil.rmtree(self.work)
        self.fill()

    def run(self, words, seconds=SECONDS):
        return subprocess.run([str(self.winnow), *words], cwd=self.work, env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds)

    def harm(self, empties_cache):
        """What a run did to the files; puts them in order again."""
        faults = []
        nodes = [("fifo", stat.S_ISFIFO), ("folder", stat.S_ISDIR)] + [("device", stat.S_ISCHR)] * self.with_nodes
        for name, is_kind in nodes:
            if not os.path.lexists(self.work / name) or not is_kind(os.lstat(self.work / name).st_mode):
                faults.append(f"{name} is not what it was")
        if not faults and (self.work / "folder" / "sentinel").read_bytes() != SENTINEL:
            faults.append("a file in a folder was changed")
        for name, content in self.inputs.items():
            path = self.work / name
            if not path.is_file() or path.read_bytes() != content:
                faults.append(f"the input {name} was changed")
        left = [name for name in os.listdir(self.work) if name.startswith(".winnow-tmp")]
        faults += [f"{name} was left behind" for name in left]
        if sorted(os.listdir(self.folder)) != ["cache", "cache.kept", "home", "made", "tmp", "work"]:
            faults.append(f"beside the working directory: {sorted(os.listdir(self.folder))}")
        if faults or set(os.listdir(self.work)) != self.names:
            self.refill()
        if empties_cache:
            shutil.rmtree(self.folder / "cache")
            shutil.copytree(self.folder / "cache.kept", self.folder / "cache")
        return faults


def flag_words(flags):
    """{"--heads": "2", "--list": None} as words; False leaves one out."""
    return [word for name, value in flags.items() if value is not False
            for word in ([name] if value is None else [name, value])]


def help_of(winnow, command):
    text = subprocess.run([str(winnow), *command, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return text.split("\nUsage:", 1)[1]


def commands_in(text):
    section = re.search(r"\nSubcommands:\n((?:  \S.*\n)+)", text)
    return re.findall(r"^  ([\w-]+)", section.group(1), re.MULTILINE) if section else []


def options_in(text):
    """(names, words behind them) of each option, and the names of the positionals."""
    options = [(names.split(","), rest) for names, rest in re.findall(r"^  (-\S+)(.*)", text, re.MULTILINE)]
    section = re.search(r"\nPositionals:\n((?:  .*\n)+)", text)
    positionals = re.findall(r"^  (\S+)(?= [A-Z])", section.group(1), re.MULTILINE) if section else []
    return options, positionals


def all_cases(winnow, values):
    """(command, words, exit code if there is one right) of every run; and faults of the help itself."""
    cases, faults = [], []
    waiting = [[name] for name in commands_in(help_of(winnow, []))]
    while waiting:
        command = waiting.pop(0)
        text = help_of(winnow, command)
        inner = commands_in(text)
        waiting += [[*command, name] for name in inner]
        name = " ".join(command)
        if name not in BASES:
            if not inner:
                faults.append(f"{name}: this command is new; give it quick arguments in BASES")
            continue
        positional, flags = BASES[name]
        cases.append((name, [*command, *positional, *flag_words(flags)], 0))
        options, positionals = options_in(text)
        for names, rest in options:
            takes = re.match(r" (TEXT|INT|UINT|FLOAT)(\S*)", rest)
            flag = names[-1]
            if "--help" in names:
                continue
            if takes and takes.group(1) != "TEXT" and not re.match(r":\S+\.\.\S+", takes.group(2)):
                faults.append(f"{name} {flag}: a number without a range")
            beside = BESIDE.get((name, flag)) or next((BESIDE[name, n] for n in names if (name, n) in BESIDE), {})
            around = {**flags, **beside}
            for other in names:
                around.pop(other, None)
            for value in values if takes else [None]:
                cases.append((name, [*command, *positional, *flag_words({**around, flag: value})], None))
        for at in range(len(positionals)):
            for value in values:
                given = list(positional) + [values[1]] * (at - len(positional))
                cases.append((name, [*command, *given[:at], value, *given[at + 1:], *flag_words(flags)], None))
    return cases, faults


def outside(winnow):
    """Names in places where a slip would leave a file."""
    places = [Path("/"), winnow.parent, Path.home(), Path.home() / ".cache", Path("/dev")]
    return {str(place): sorted(os.listdir(place)) if place.is_dir() else [] for place in places}


def main():
    parser = argparse.ArgumentParser(description="Sets every flag to every odd value.")
    parser.add_argument("winnow", type=Path)
    parser.add_argument("--only", default="", help="a regular expression that the command line must match")
    parser.add_argument("--verbose", action="store_true", help="print every run")
    options = parser.parse_args()
    winnow = options.winnow.resolve()
    began, before = time.monotonic(), outside(winnow)
    with tempfile.TemporaryDirectory(prefix="winnow-flags-") as name:
        top = Path(name)
        try:
            os.mknod(top / "node", stat.S_IFCHR | 0o600, os.makedev(1, 3))
            with_nodes = True
        except PermissionError:
            with_nodes = False
            print("NOT TESTED: device nodes, because mknod is not permitted here", flush=True)
        values = ["", "0", "-1", str(2**31), str(2**63), "nan", b"no-\xff\xfe-utf8", "folder", "fifo"]
        values += ["device"] * with_nodes
        cases, faults = all_cases(winnow, values)
        cases = [case for case in cases if re.search(options.only, " ".join(map(str, case[1])))]
        scratches = [Scratch(top / str(i), winnow, with_nodes) for i in range(2)]
        codes = {}

        def judge(scratch, command, words, right):
            shown = "winnow " + " ".join(repr(word) if not re.fullmatch(r"[\w./,^$-]+", str(word)) else word
                                         for word in words)
            if any(isinstance(word, bytes) for word in words):
                words = [*words, "--json"]
            start = time.monotonic()
            try:
                done = scratch.run(words)
            except subprocess.TimeoutExpired:
                scratch.refill()
                return [f"{shown}: not done after {SECONDS} s"]
            codes[done.returncode] = codes.get(done.returncode, 0) + 1
            said = done.stderr.decode(errors="replace").splitlines()
            found = []
            if not 0 <= done.returncode <= 5:
                found.append(f"ended with {done.returncode}: {' / '.join(said[-2:])}")
            elif right not in (None, done.returncode):
                found.append(f"ended with {done.returncode}, not {right}: {' / '.join(said[-2:])}")
            if len(said) > 2:
                found.append(f"{len(said)} lines on stderr: {' / '.join(said[:4])}")
            if done.returncode and not said:
                found.append(f"exit code {done.returncode} without a word")
            found += scratch.harm(empties_cache=command in ("cache clear", "cache gc", "cache verify"))
            if options.verbose:
                print(f"{time.monotonic() - start:5.2f} s, {done.returncode}: {shown}: {' / '.join(said[:2])[:200]}",
                      flush=True)
            return [f"{shown}: {fault}" for fault in found]

        with ThreadPoolExecutor(len(scratches)) as pool:
            halves = [pool.submit(lambda i: [fault for case in cases[i::len(scratches)]
                                             for fault in judge(scratches[i], *case)], i)
                      for i in range(len(scratches))]
            for half in halves:
                faults += half.result()
    after = outside(winnow)
    faults += [f"{place}: {sorted(set(before[place]) ^ set(after[place]))} came or went"
               for place in before if before[place] != after[place]]
    for fault in faults:
        print(fault)
    counts = ", ".join(f"{count} ended with {code}" for code, count in sorted(codes.items()))
    print(f"{len(cases)} runs in {time.monotonic() - began:.0f} s: {counts}; {len(faults)} faults")
    return 1 if faults or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
