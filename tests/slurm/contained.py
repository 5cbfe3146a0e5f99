# Runs one daemon so that everything it ever starts can be killed at once, as when its machine loses power. Slurm's step
# daemons leave their parent, so a process group is not enough; here a small keeper process adopts them (Linux only).
# Entry: a command and a log file. Exit: after stop(), or when the test itself dies, no process of the command is left.
import ctypes
import os
import signal
import subprocess
import time

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36


def descendants(root):
    """Process ids of all living descendants of process `root`."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
            except OSError:  # ended meanwhile
                continue
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry))
    found = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def reap():
    """Collects ended children; returns their ids, or None if there is no child at all."""
    ended = []
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended or None
        if pid == 0:
            return ended
        ended.append(pid)


def keep(command, log, environment, parent):
    """The keeper: returns when the command has ended or SIGTERM has come, and nothing of it is left."""
    os.setsid()  # Ctrl-C at a terminal is for the test
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) or prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        return
    with open(log, "ab") as file:
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment)
    while not told and daemon.pid not in (reap() or []):
        time.sleep(0.05)
    while reap() is not None:
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)
    daemon.returncode = 0  # so that Popen does not look for it


class Contained:
    """A running command with all its descendants."""

    def __init__(self, command, log, environment):
        parent = os.getpid()
        self.pid = os.fork()
        self.ended = False
        if self.pid == 0:
            try:
                keep(command, log, environment, parent)
                os._exit(0)
            except BaseException as error:
                with open(log, "a") as file:
                    file.write(f"{command[0]}: {error}\n")
                os._exit(1)

    def running(self):
        if not self.ended:
            self.ended = os.waitpid(self.pid, os.WNOHANG)[0] != 0
        return not self.ended

    def processes(self):
        return descendants(self.pid)

    def stop(self):
        """Kills the command and its descendants with SIGKILL and waits until they are gone."""
        if self.running():
            os.kill(self.pid, signal.SIGTERM)
            os.waitpid(self.pid, 0)
            self.ended = True
