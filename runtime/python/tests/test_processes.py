"""Threads, processes that fork after a prepare, and interpreters that end with programs still held."""

import os
import subprocess
import sys
import threading
import time

import numpy as np

import winnow
from small import SMALL


def answer(program, tokens=300):
    rng = np.random.default_rng(5)
    q = rng.standard_normal((tokens, 4, 64)).astype(np.float16)
    k, v = rng.standard_normal((2, tokens, 2, 64)).astype(np.float16)
    out, lengths = np.empty_like(q), np.array([0, tokens], np.int32)
    program.launch(q, k, v, out, cu_q=lengths, cu_k=lengths, max_q=tokens, max_k=tokens)
    return out


def test_threads_share_a_program(packed):
    wanted, got = answer(packed), [None] * 4

    def work(place):
        got[place] = answer(packed)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(got))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for out in got:
        np.testing.assert_array_equal(out, wanted)


def test_other_threads_run_during_a_prepare_and_a_launch():
    engine, turns, ended = winnow.Engine(cache_dir=""), [], threading.Event()

    def count():
        while not ended.is_set():
            turns.append(1)
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    program = engine.prepare("infllm_v2", device="cpu", **SMALL)
    during_prepare = len(turns)
    answer(program, 2000)
    during_launch = len(turns) - during_prepare
    ended.set()
    thread.join()
    assert during_prepare > 3 and during_launch > 3


def test_many_at_once():
    engine, steps = winnow.Engine(cache_dir=""), []
    specs = [dict(SMALL, method="infllm_v2", topk=topk) for topk in (3, 4, 5, 4)]
    programs = engine.prepare_list(specs, device="cpu", progress=lambda done, count: steps.append((done, count)))
    assert [program.spec.topk for program in programs] == [3, 4, 5, 4]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert engine.find("infllm_v2", device="cpu", **SMALL).origin == "memory"


def test_one_of_many_fails():
    engine = winnow.Engine(cache_dir="")
    specs = [winnow.Spec("dense", heads=2, kv_heads=1), winnow.Spec("nowhere", heads=2, kv_heads=1)]
    try:
        engine.prepare_list(specs, device="cpu")
    except winnow.InvalidError as error:
        assert "specs[1]" in error.__notes__[0]
    else:
        raise AssertionError("an unknown method was prepared")
    assert engine.find(specs[0], device="cpu").device == winnow.CPU


def test_fork_after_prepare(packed):
    wanted = answer(packed)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            same = np.array_equal(answer(packed), wanted)
            fresh = winnow.prepare(packed.spec, topk=3, device="cpu")  # the child compiles too
            status = 0 if same and answer(fresh).any() else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_exit_with_programs_held():
    code = ("import winnow, threading\n"
            "engine = winnow.Engine(cache_dir='')\n"
            "program = engine.prepare('dense', heads=2, kv_heads=1, device='cpu')\n"
            "class Held: pass\n"
            "held = Held(); held.self, held.program, held.engine = held, program, engine\n"  # a ring, found at exit
            "threading.Thread(target=lambda: engine.prepare('dense', heads=4, kv_heads=1, device='cpu')).start()\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
