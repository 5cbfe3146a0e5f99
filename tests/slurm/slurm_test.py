#!/usr/bin/env python3
# A tuning sweep as a Slurm job array (examples/slurm) on a private cluster of two nodes, one of which dies in the
# middle of the sweep. The living node must finish the lost task from where it stopped, and the merged file must hold
# every record exactly once.
# Entry: the winnow program, a file of specs, how many records their sweep gives.
# Exit: status 0, or 1 and the reason; no process and no file is left.
import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from cluster import Cluster, ClusterError, report

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "slurm"
NODES = ["node1", "node2"]
NODE_TIMEOUT = 5  # seconds until a silent node counts as dead
TORN = b'{"torn'  # what a host that dies while it writes leaves behind
KEY = ("phase", "method", "spec", "tokens", "overlap", "arch", "device")  # TuningKey of runtime/tuned/TuningRecord.h


def parsed(line):
    """The object of a line, or None if the line is cut short."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def records(lines):
    """Keys of all records among lines; trials and lines cut short are none."""
    objects = [parsed(line) for line in lines]
    return [json.dumps([one[name] for name in KEY]) for one in objects if one and one.get("kind") == "record"]


class Sweep:
    def __init__(self, cluster, arguments):
        self.cluster = cluster
        self.arguments = arguments
        self.folder = Path(cluster.folder) / "sweep"

    def submit(self):
        """Submits as examples/slurm/README.md says, from a folder that holds nothing else."""
        cluster = self.cluster
        programs = Path(cluster.folder) / "bin"
        programs.mkdir()
        (programs / "winnow").symlink_to(Path(self.arguments.winnow).resolve())
        cluster.environment["PATH"] = f"{programs}{os.pathsep}{cluster.environment['PATH']}"
        specs = str(Path(self.arguments.specs).resolve())
        array = cluster.run("sbatch", "--parsable", f"--array=0-{self.arguments.shards - 1}",
                            str(EXAMPLES / "tune.sbatch"), specs, "sweep", *self.arguments.tune_args,
                            cwd=cluster.folder).strip()
        merge = cluster.run("sbatch", "--parsable", f"--dependency=afterok:{array}", str(EXAMPLES / "merge.sbatch"),
                            "sweep", cwd=cluster.folder).strip()
        return array, merge

    def shard(self, task):
        return self.folder / f"shard-{task}.jsonl"

    def lines(self, task):
        """The complete lines of a shard's file."""
        path = self.shard(task)
        return path.read_bytes().split(b"\n")[:-1] if path.exists() else []

    def tasks(self, array):
        """The tasks of the array that have started or ended, by number."""
        return {job["ArrayTaskId"]: job for job in self.cluster.jobs()
                if job.get("ArrayJobId") == array and job.get("ArrayTaskId", "").isdigit()}

    def begun_on(self, array, merge, node):
        """The task that runs on a node and has written a record, if there is one."""
        if self.ended(array, merge):
            raise ClusterError(f"the sweep ended before {node} could be killed; give the tuner slower work")
        for task, job in self.tasks(array).items():
            if job["JobState"] == "RUNNING" and job.get("NodeList") == node and records(self.lines(task)):
                return task
        return None

    def ended(self, array, merge):
        """True once the merge is complete; a failed task is an error at once."""
        jobs = [job for job in self.cluster.jobs() if merge == job["JobId"] or job.get("ArrayJobId") == array]
        for job in jobs:
            if job["JobState"] in ("FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "BOOT_FAIL", "OUT_OF_MEMORY"):
                raise ClusterError(f"job {job['JobId']}, {job['JobName']}: {job['JobState']}, exit {job['ExitCode']}")
        return all(job["JobState"] == "COMPLETED" for job in jobs)

    def run(self):
        """The sweep with a death in the middle. Returns the lost task's number and its records at that time."""
        cluster = self.cluster
        array, merge = self.submit()
        dying, living = NODES[1], NODES[0]
        task = cluster.wait(f"a record from {dying}", 60, lambda: self.begun_on(array, merge, dying))
        cluster.kill(dying)
        before = self.lines(task)
        with open(self.shard(task), "ab") as file:
            file.write(TORN)
        said(f"{dying} killed while it ran shard {task}, after {len(records(before))} records")
        cluster.wait(f"Slurm to see that {dying} is down", 60,
                     lambda: cluster.node_states().get(dying, "").startswith("down"))
        said(f"{dying} is down for Slurm")
        cluster.wait("the end of the sweep", 180, lambda: self.ended(array, merge))
        job = self.tasks(array)[task]
        if job["Restarts"] == "0":
            raise ClusterError(f"shard {task} ended before {dying} was killed; give the tuner slower work")
        if job["NodeList"] != living:
            raise ClusterError(f"shard {task} was repeated on {job['NodeList']}, not on {living}")
        return task, before

    def check(self, task, before):
        """Complaints about the files that the sweep left."""
        found = []
        after = self.lines(task)
        if after[:len(before)] != before:
            found.append(f"shard {task}: the {len(before)} lines from before the death were not kept as they were")
        if len(records(after)) == len(records(before)):
            found.append(f"shard {task}: nothing was left to do after the death")
        # The torn end may be cut off or ended, but never carry the next line.
        found += [f"shard {task}: lost in a torn line: {line!r}" for line in after
                  if parsed(line) is None and not line.endswith(TORN)]
        # The shards themselves too: a repeated measurement is lost time, even where the merge drops it.
        shards = [line for number in range(self.arguments.shards) for line in self.lines(number)]
        merged = (self.folder / "tuned.jsonl").read_bytes().splitlines()
        for name, lines in (("the shards", shards), ("tuned.jsonl", merged)):
            keys = Counter(records(lines))
            found += [f"{name}: {count} times {key}" for key, count in keys.items() if count > 1]
            if len(keys) != self.arguments.records:
                found.append(f"{name}: {len(keys)} different records, not {self.arguments.records}")
        found += [f"tuned.jsonl: not a line of JSON: {line!r}" for line in merged if parsed(line) is None]
        return found


def said(text, start=time.monotonic()):
    print(f"{time.monotonic() - start:5.1f} s  {text}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="A tuning sweep over two Slurm nodes, one of which dies.")
    parser.add_argument("--winnow", required=True, help="the program")
    parser.add_argument("--specs", required=True, help="file of specs for winnow tune")
    parser.add_argument("--records", type=int, required=True, help="how many records the whole sweep gives")
    parser.add_argument("--shards", type=int, default=4, help="tasks of the array")
    parser.add_argument("--tune-args", nargs=argparse.REMAINDER, default=[], help="the rest: arguments of winnow tune")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("slurm_test: stopped"))
    with tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as folder:
        try:
            with Cluster(folder, NODES, NODE_TIMEOUT) as cluster:
                said("both nodes are idle")
                sweep = Sweep(cluster, arguments)
                found = sweep.check(*sweep.run())
                said("the sweep is merged")
        except ClusterError as error:
            found = [str(error)]
        if found:
            print(report(folder))
    for line in found:
        print(f"slurm_test: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
