#!/usr/bin/env python3
# `winnow tune` as a process, with a worker that plays a GPU: stopped by Ctrl-C or killed at random moments, it goes on
# where it was and every record is there once; shards share the tasks; bad input is told in one line. The real workers
# run on a driver made of host memory whose kernels do nothing.
# Entry: paths of winnow, of the fake worker and of the fake driver. Exit: unittest's summary on stderr; status 1 if a test failed.
# By hand, for the thousand rounds: tune_test.py --winnow ... --worker ... --fake-cuda ... --rounds 1000
import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ARGUMENTS = None
KEY = ("phase", "method", "spec", "tokens", "overlap", "arch", "device")


def lines_of(path):
    """The lines of a tuned file, and how many cannot be read."""
    lines, broken = [], 0
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            broken += 1
    return lines, broken


class TuneTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.script(sleep=0.0005)

    def tearDown(self):
        self.folder.cleanup()

    def script(self, **content):
        (self.path / "worker.json").write_text(json.dumps(content))

    def specs(self, count):
        grid = {"method": "infllm_v2", "phase": "attend", "seq": [2048 + 64 * i for i in range(count)]}
        (self.path / "specs.json").write_text(json.dumps([grid]))
        return "specs.json"

    def start(self, *words):
        command = [ARGUMENTS.winnow, "tune", *words, "--worker", f"{ARGUMENTS.worker} worker.json"]
        return subprocess.Popen(command, cwd=self.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run_tune(self, *words):
        process = self.start(*words)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def records(self, name="tuned.jsonl"):
        lines, broken = lines_of(self.path / name)
        self.assertEqual(broken, 0)
        return collections.Counter(tuple(l[k] for k in KEY) for l in lines if l["kind"] == "record")

    def test_ctrl_c_leaves_a_file_that_is_resumed(self):
        specs = self.specs(12)
        self.script(sleep=0.002)
        process = self.start(specs)
        deadline = time.time() + 60
        while not self.records() and time.time() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn("--resume", err)
        before = self.records()
        self.assertTrue(0 < len(before) < 12, before)
        self.script(sleep=0)
        code, out, err = self.run_tune(specs, "--resume", "--json")
        self.assertEqual(code, 0, err)
        self.assertEqual(json.loads(out)["skipped"], len(before))
        self.assertEqual(set(self.records().values()), {1})
        self.assertEqual(len(self.records()), 12)
        self.assertEqual(sorted(p.name for p in self.path.iterdir()), ["specs.json", "tuned.jsonl", "worker.json"])

    def test_decode_has_a_record_for_each_batch(self):
        words = ("infllm_v2", "--phase", "decode", "--batch", "1,64", "--seq", "16384,131072")
        self.script(sleep=0, configs={"decode_stages=3": {"ms": 5}})
        code, out, err = self.run_tune(*words, "--json")
        self.assertEqual(code, 0, err)
        records = json.loads(out)["records"]
        self.assertEqual(sorted((r["tokens"], r["batch"]) for r in records),
                         [(16384, 1), (16384, 64), (131072, 1), (131072, 64)])
        for record in records:
            self.assertEqual((record["phase"], record["overlap"], record["config"]), ("decode", 0, "decode_stages=3"))
            self.assertIn(" paged=1", record["spec"])
        _, out, _ = self.run_tune(*words, "--resume", "--json")
        self.assertEqual(json.loads(out)["skipped"], 4)

    def test_backward_has_a_record_for_each_overlap(self):
        words = ("infllm_v2", "--phase", "backward", "--overlap", "1,32", "--seq", "16384")
        self.script(sleep=0, configs={"backward_key_stages=3": {"ms": 5}})
        code, out, err = self.run_tune(*words, "--json")
        self.assertEqual(code, 0, err)
        records = json.loads(out)["records"]
        self.assertEqual(sorted(r["overlap"] for r in records), [1, 32])
        for record in records:
            self.assertEqual((record["phase"], record["config"]), ("backward", "backward_key_stages=3"))
            self.assertIn(" backward=1", record["spec"])

    def test_killed_at_random_it_loses_nothing_and_goes_on(self):
        # Rounds of a sweep that is killed; when it is through, the next file begins.
        chance = random.Random(ARGUMENTS.seed)
        specs = self.specs(5)
        killed = finished = 0
        while killed < ARGUMENTS.rounds:
            file = self.path / "tuned.jsonl"
            file.unlink(missing_ok=True)
            seen = collections.Counter()
            window = 0.3  # seconds within which a kill falls; wider where the machine is too busy for a task in between
            while True:
                process = self.start(specs, "--resume")
                try:
                    process.communicate(timeout=chance.uniform(0.02, window))
                    self.assertEqual(process.returncode, 0)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()
                    killed += 1
                lines, broken = lines_of(file)
                self.assertLessEqual(broken, killed)
                now = collections.Counter(tuple(l[k] for k in KEY) for l in lines if l["kind"] == "record")
                self.assertFalse(seen - now, "a record is gone")
                window = 0.3 if now != seen else window * 1.3
                seen = now
                if process.returncode == 0:
                    break
            self.assertEqual(set(seen.values()), {1})
            self.assertEqual(len(seen), 5)
            finished += 1
        print(f"{killed} kills, {finished} sweeps", file=sys.stderr)

    def test_every_core_compiles(self):
        for jobs, words in ((os.cpu_count(), []), (3, ["--jobs", "3"])):
            with self.subTest(jobs=jobs):
                log = self.path / f"compilers{jobs}"
                self.script(compilers=log.name)
                code, _, err = self.run_tune(self.specs(1), "--db", f"jobs{jobs}.jsonl", *words)
                self.assertEqual(code, 0, err)
                processes = len(set(log.read_text().split()))
                self.assertTrue(min(2, jobs) <= processes <= jobs, processes)

    def test_shards_share_the_tasks(self):
        specs = self.specs(7)
        for shard in range(3):
            code, _, err = self.run_tune(specs, "--shard", f"{shard}/3", "--db", f"{shard}.jsonl")
            self.assertEqual(code, 0, err)
        shards = [self.records(f"{shard}.jsonl") for shard in range(3)]
        self.assertEqual([len(s) for s in shards], [3, 2, 2])
        self.assertEqual(len(shards[0] + shards[1] + shards[2]), 7)

    def test_shards_take_whole_programs(self):
        grid = {"method": "infllm_v2", "topk": [36, 48, 64, 96], "seq": [2048, 4096], "overlap": [1, 32]}
        (self.path / "specs.json").write_text(json.dumps([grid]))
        for count in (2, 3, 4):
            seen = collections.Counter()
            for shard in range(count):
                out = self.run_tune("specs.json", "--list", "--shard", f"{shard}/{count}")[1]
                lines = [line.split(" tokens=")[0] for line in out.splitlines()]
                self.assertIn(len(lines), range(24 // count - 2, 24 // count + 3))
                seen.update(set(lines))
            self.assertEqual(set(seen.values()), {1}, "a program is in two shards")
            self.assertEqual(len(seen), 8)

    def test_one_signal_sent_twice_is_one(self):
        # As `timeout` does, to the process and to its group.
        specs = self.specs(4)
        self.script(sleep=0.002)
        process = self.start(specs)
        while not self.records():
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn("--resume", err)

    def test_no_task_is_left_in_the_file(self):
        specs = self.specs(2)
        self.assertEqual(self.run_tune(specs)[0], 0)
        code, out, err = self.run_tune(specs, "--resume", "--json")
        self.assertEqual((code, json.loads(out)["skipped"]), (0, 2), err)

    def test_F41_all_wrong_is_an_error_and_nothing_is_stored(self):
        wrong = {"at": "cases", "do": "wrong"}
        specs = self.specs(1)
        self.assertEqual(self.run_tune(specs, "--db", "all.jsonl")[0], 0)
        configs = {l["config"]: wrong for l in lines_of(self.path / "all.jsonl")[0] if l["kind"] == "trial"}
        self.script(configs=configs)
        code, _, err = self.run_tune(specs)
        self.assertEqual(code, 5, err)
        self.assertIn("every candidate failed", err)
        self.assertFalse((self.path / "tuned.jsonl").exists())

    def test_bad_input_is_told_in_one_line(self):
        (self.path / "broken.json").write_text('[{"method": "infllm_v2"')
        (self.path / "unknown.json").write_text('[{"method": "infllm_v2", "colour": 1}]')
        (self.path / "nothing.json").write_text('[{"method": "infllm_v2", "seq": []}]')
        (self.path / "deep.json").write_text("[" * 1000000 + "]" * 1000000)
        # 759 bytes that stand for 4e9 specs; and many small grids that do.
        many = {name: list(range(1, 41)) for name in ("heads", "kv_heads", "block", "topk", "seq", "overlap")}
        (self.path / "many.json").write_text(json.dumps([{"method": "infllm_v2", **many}]))
        (self.path / "odd.json").write_text('[{"method": "infllm_v2"}, {"method": "infllm_v2", "group": 5}]')
        for words, code, text in [
                ([], 2, "say what to tune"), (["broken.json"], 2, "not a JSON list"),
                (["unknown.json"], 2, "unknown.json, entry 1: 'colour'"), (["nothing.json"], 2, "'seq'"),
                (["deep.json"], 2, "it has more than 64 levels"), (["many.json"], 2, "10000 problems"),
                (["odd.json"], 2, "odd.json, entry 2"), (["odd.json", "--topk", "16"], 2, "--topk"), (["missing.json"], 2, "missing.json"),
                (["no_such_method"], 2, "no_such_method"), (["infllm_v2", "--shard", "3/3"], 2, "--shard"),
                (["infllm_v2", "--phase", "prefill"], 2, "use select, attend, decode or backward"),
                (["infllm_v2", "--device", "0"], 2, "write emulated:ARCH"),
                (["infllm_v2", "--gpus", "1-"], 2, "--gpus"), (["infllm_v2", "--space", "huge"], 2, "huge"),
                (["infllm_v2", "--head-dim", "128,x"], 2, "head-dim"), (["infllm_v2", "--head-dim", "7"], 3, "7"),
                (["infllm_v2", "--db", "no/such/folder/x.jsonl"], 2, "no/such/folder")]:
            with self.subTest(words=words):
                result, out, err = self.run_tune(*words)
                self.assertEqual(result, code, err)
                self.assertIn(text, err)
                self.assertEqual(len(err.strip().splitlines()), 1, err)
                self.assertEqual(out, "")


class Serving:
    """A real worker of one kind, asked line by line."""

    def __init__(self, kind, folder):
        libraries = [str(ARGUMENTS.fake_nvml), os.environ.get("LD_LIBRARY_PATH", "")]
        environment = dict(os.environ, WINNOW_LIBCUDA=str(ARGUMENTS.fake_cuda), LD_LIBRARY_PATH=":".join(filter(None, libraries)))
        self.process = subprocess.Popen([ARGUMENTS.winnow, "tune", "--serve", kind], cwd=folder, env=environment,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=30)

    def ask(self, do, **request):
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class RealWorkerTest(unittest.TestCase):
    PROGRAM = {"method": "moba", "spec": "heads=4 kv_heads=2 head_dim=64 value_dim=64 block=64 topk=4 dtype=bf16"}

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    @staticmethod
    def floor_ms(phase, tokens):
        """Operations of PROGRAM's phase at the 312 TFLOP/s of an A100, in milliseconds."""
        if phase == "attend":  # up to 3 whole blocks and the own one; products with keys and values of 64 elements
            keys = sum(min(3, token // 64) * 64 + token % 64 + 1 for token in range(tokens))
            return keys * 4 * 2 * (64 + 64) / 312e12 * 1e3
        # A summary for each whole block, for the tokens that have more than 4 blocks.
        summaries = sum((token + 1) // 64 for token in range(tokens) if token // 64 >= 4)
        return summaries * 4 * 2 * 64 / 312e12 * 1e3

    def test_the_phases_of_a_program_are_built_apart_and_measured(self):
        images = {}
        with Serving("compile", self.path) as worker:
            for phase in ("select", "attend"):
                answer = worker.ask("compile", **self.PROGRAM, config="default", phase=phase, arch="sm_80",
                                    directory="images")
                self.assertTrue(answer["ok"], answer)
                images[phase] = answer["path"]
        self.assertNotEqual(*images.values())
        with Serving("measure", self.path) as worker:
            opened = worker.ask("open", gpu=0, arch="sm_80")
            self.assertEqual((opened["arch"], opened["driver"]), ("sm_80", "999.01"))
            for phase, path in images.items():
                with self.subTest(phase=phase):
                    self.assertTrue(worker.ask("program", **self.PROGRAM, phase=phase)["ok"])
                    self.assertTrue(worker.ask("load", candidate=0, path=path)["ok"])
                    if phase == "select":  # the other one goes on with its tensors
                        self.assertIn("no workload", worker.ask("time", candidate=0)["error"])
                    self.assertNotEqual(worker.ask("cases", candidate=0)["fault"], "")
                    # Longer and shorter: what a graph was captured with must not be used after it is gone.
                    for tokens, overlap in ((2048, 1), (2048, 8), (5000, 8), (1024, 8)):
                        floor = worker.ask("workload", tokens=tokens, overlap=overlap)["floor_ms"]
                        self.assertAlmostEqual(floor / self.floor_ms(phase, tokens), 1, delta=1e-6)
                        self.assertNotEqual(worker.ask("check", candidate=0)["fault"], "")
                        for _ in range(2):
                            answer = worker.ask("time", candidate=0)
                            self.assertEqual([answer.get(name) for name in ("ms", "clock_mhz", "watts")], [1.5, 1410, 345])
                    self.assertTrue(worker.ask("load", candidate=1, path=path)["ok"])
                    self.assertEqual([worker.ask("time", candidate=i).get("ms") for i in (0, 1)], [1.5, 1.5])

    def test_decode_is_compared_and_timed_under_the_emulator(self):
        program = {"method": "infllm_v2", "spec": "heads=2 kv_heads=1 head_dim=64 value_dim=64 block=16 topk=3 dtype=bf16"
                                                  " paged=1 set.init=1 set.local=1 set.window=16 set.stride=8"}
        configs, paths = ("default", "decode_stages=3 decode_part_tiles=1"), []
        with Serving("compile", self.path) as worker:
            for config in configs:
                answer = worker.ask("compile", **program, config=config, phase="decode", arch="sm_90a", emulated=True,
                                    directory="images")
                self.assertTrue(answer["ok"], answer)
                paths.append(answer["path"])
        with Serving("measure", self.path) as worker:
            self.assertEqual(worker.ask("open", gpu=0, device="emulated:sm_90a")["arch"], "sm_90a")
            self.assertIn("decode and backward alone", worker.ask("program", **program, phase="attend")["error"])
            self.assertTrue(worker.ask("program", **program, phase="decode")["ok"])
            for candidate, path in enumerate(paths):
                self.assertTrue(worker.ask("load", candidate=candidate, path=path)["ok"])
                self.assertEqual(worker.ask("cases", candidate=candidate), {"ok": True, "fault": ""})
            self.assertIn("no workload", worker.ask("time", candidate=0)["error"])
            for tokens, batch in ((150, 2), (100, 1)):
                self.assertTrue(worker.ask("workload", tokens=tokens, batch=batch)["ok"])
                for candidate in range(len(paths)):
                    self.assertEqual(worker.ask("check", candidate=candidate), {"ok": True, "fault": ""})
                    self.assertGreater(worker.ask("time", candidate=candidate)["ms"], 0)

    def test_backward_is_compared_and_timed_under_the_emulator(self):
        program = {"method": "infllm_v2", "spec": "heads=2 kv_heads=1 head_dim=64 value_dim=64 block=16 topk=3 dtype=bf16"
                                                  " backward=1 set.init=1 set.local=1 set.window=16 set.stride=8"}
        configs, paths = ("default", "backward_key_stages=2 backward_key_rows=16"), []
        with Serving("compile", self.path) as worker:
            for config in configs:
                answer = worker.ask("compile", **program, config=config, phase="backward", arch="sm_80", emulated=True,
                                    directory="images")
                self.assertTrue(answer["ok"], answer)
                paths.append(answer["path"])
        with Serving("measure", self.path) as worker:
            self.assertEqual(worker.ask("open", gpu=0, device="emulated:sm_80")["arch"], "sm_80")
            self.assertTrue(worker.ask("program", **program, phase="backward")["ok"])
            for candidate, path in enumerate(paths):
                self.assertTrue(worker.ask("load", candidate=candidate, path=path)["ok"])
                self.assertEqual(worker.ask("cases", candidate=candidate), {"ok": True, "fault": ""})
            self.assertIn("no workload", worker.ask("time", candidate=0)["error"])
            for tokens, overlap in ((150, 1), (100, 8)):
                self.assertGreater(worker.ask("workload", tokens=tokens, overlap=overlap)["floor_ms"], 0)
                for candidate in range(len(paths)):
                    self.assertEqual(worker.ask("check", candidate=candidate), {"ok": True, "fault": ""})
                    self.assertGreater(worker.ask("time", candidate=candidate)["ms"], 0)

    def test_requests_of_the_wrong_types_are_answered_with_an_error(self):
        odd = [{"spec": 7}, {"method": []}, {"spec": {}, "method": 1}, {"config": 7}, {"ptx": "no"}, {"directory": 1},
               {"gpu": "x"}, {"gpu": 1e99}, {"do": 7}, {"do": None}, {"tokens": "many"}, {"candidate": "0"}, {"path": 7}]
        for kind in ("compile", "measure"):
            with Serving(kind, self.path) as worker:
                if kind == "measure":
                    self.assertTrue(worker.ask("open", gpu=0, arch="sm_80")["ok"])
                for request in odd:
                    for do in ("compile", "program", "open", "load"):
                        answer = worker.ask(**{"do": do, **request})
                        if kind == "compile" or do != "open":
                            self.assertFalse(answer["ok"], (kind, do, request, answer))
                        self.assertIn("ok", answer)
                for line in ("7", "[]", "", "{", "[" * 100000 + "]" * 100000):
                    worker.process.stdin.write(line + "\n")
                    worker.process.stdin.flush()
                    self.assertIn("no JSON object", json.loads(worker.process.stdout.readline())["error"])

    def test_F41_kernels_that_do_nothing_give_no_record(self):
        command = [ARGUMENTS.winnow, "tune", self.PROGRAM["method"], "--heads", "4", "--head-dim", "64", "--topk", "4",
                   "--seq", "1024", "--phase", "select", "--arch", "sm_80"]
        environment = dict(os.environ, WINNOW_LIBCUDA=str(ARGUMENTS.fake_cuda))
        tune = subprocess.run(command, cwd=self.path, env=environment, capture_output=True, text=True, timeout=300)
        self.assertEqual(tune.returncode, 5, tune.stderr)
        self.assertIn("every candidate failed; nothing is stored; the default: poison inputs", tune.stderr)
        self.assertEqual(list(self.path.iterdir()), [])


def main():
    global ARGUMENTS
    parser = argparse.ArgumentParser(description="Tests of winnow tune as a process.")
    parser.add_argument("--winnow", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--worker", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--fake-cuda", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--fake-nvml", type=lambda path: Path(path).resolve(), required=True, help="folder of libnvidia-ml.so.1")
    parser.add_argument("--rounds", type=int, default=20, help="how often a sweep is killed")
    parser.add_argument("--seed", type=int, default=1)
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
