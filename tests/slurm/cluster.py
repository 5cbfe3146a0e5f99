# A private Slurm cluster on this machine: munged, slurmctld and one slurmd per node, each node with one core and one
# pretended GPU. No cgroup, no systemd, no file outside the given folder, no fixed port; any user may run it.
# Entry: an empty folder with a short path, Debian 12's slurmctld, slurmd, slurm-client and munge.
# Exit: leaving the `with` kills every process of the cluster.
import os
import pwd
import shutil
import socket
import subprocess
import time

from contained import Contained

SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo")
MAX_SOCKET_PATH = 107  # sun_path of unix(7), less its end

# cred_expire is also how long a job waits after it was queued again. ReturnToService lets a node that was only slow, on
# a busy machine, come back.
CONFIGURATION = """\
ClusterName=winnow
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/%n
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
SlurmctldTimeout=10
SlurmdTimeout={timeout}
TCPTimeout=1
MessageTimeout=5
KillWait=1
ReturnToService=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
PartitionName=main Nodes=ALL Default=YES
"""


class ClusterError(Exception):
    """What went wrong, in a sentence."""


def free_ports(count):
    """Ports that nothing listens on now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def tail(path, lines=15):
    try:
        return "".join(open(path, errors="replace").readlines()[-lines:])
    except OSError:
        return ""


def report(folder):
    """Ends of all logs in a cluster's folder, for the reader of a failure."""
    parts = []
    for where, _, names in os.walk(folder):
        for name in sorted(names):
            if name.endswith((".out", ".log", ".jsonl")):
                parts.append(f"--- {name}\n" + tail(os.path.join(where, name)))
    return "\n".join(parts)


class Cluster:
    def __init__(self, folder, nodes, node_timeout):
        missing = [name for name in PROGRAMS if not shutil.which(name, path=SEARCH)]
        if missing:
            raise ClusterError(f"{', '.join(missing)} not found: install slurmctld, slurmd, slurm-client and munge "
                               "(tools/setup.sh does)")
        self.folder = folder
        self.nodes = nodes
        self.node_timeout = node_timeout
        self.daemons = {}
        if len(f"{folder}/munge.socket.lock") > MAX_SOCKET_PATH:
            raise ClusterError(f"{folder}: too long a path for a socket; set TMPDIR to a shorter one")
        # A test that itself runs under Slurm must not talk to that cluster.
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith(("SLURM", "SBATCH", "SINFO", "SQUEUE", "SCONTROL"))}
        self.environment |= {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": SEARCH, "LC_ALL": "C"}

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for daemon in reversed(list(self.daemons.values())):
            daemon.stop()

    def start(self):
        host = socket.gethostname().split(".")[0]
        try:
            user = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            raise ClusterError(f"user {os.geteuid()} has no name; Slurm needs one") from None
        port, *node_ports = free_ports(1 + len(self.nodes))
        text = CONFIGURATION.format(host=host, port=port, user=user, folder=self.folder, timeout=self.node_timeout)
        gpus = ""
        for node, node_port in zip(self.nodes, node_ports):
            text += f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} CPUs=1 Gres=gpu:1\n"
            gpus += f"NodeName={node} Name=gpu File=/dev/null\n"
        # Named, so that slurmd does not look for a mounted cgroup file system: a container may have none.
        cgroups = "CgroupPlugin=cgroup/v1\n"
        for name, content in (("slurm.conf", text), ("gres.conf", gpus), ("cgroup.conf", cgroups)):
            with open(f"{self.folder}/{name}", "w") as file:
                file.write(content)
        os.mkdir(f"{self.folder}/state", 0o700)
        os.chmod(self.folder, 0o755)  # munged refuses a socket that others could not reach
        self.start_munged()
        self.daemon("slurmctld", "slurmctld", "-D", "-i")
        for node in self.nodes:
            self.daemon(node, "slurmd", "-D", "-N", node)
        self.wait("all nodes to be idle", 60,
                  lambda: set(self.node_states().values()) == {"idle"})

    def start_munged(self):
        key = f"{self.folder}/munge.key"
        with open(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(os.urandom(128))
        socket_path = f"{self.folder}/munge.socket"
        options = {"key-file": key, "socket": socket_path, "num-threads": "1"}
        options |= {f"{name}-file": f"{self.folder}/munged.{name}" for name in ("pid", "seed", "log")}
        self.daemon("munged", "munged", "--foreground", *[f"--{name}={value}" for name, value in options.items()])
        self.wait("munged's socket", 20, lambda: os.path.exists(socket_path))

    def daemon(self, name, program, *arguments):
        path = shutil.which(program, path=SEARCH)
        self.daemons[name] = Contained([path, *arguments], f"{self.folder}/{name}.out", self.environment)

    def kill(self, name):
        """The machine of a node loses power: slurmd, step daemons and jobs are gone."""
        self.daemons.pop(name).stop()

    def run(self, *command, **options):
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, **options)
        if result.returncode:
            raise ClusterError(f"{' '.join(command)}: status {result.returncode}: {result.stderr.strip()}")
        return result.stdout

    def node_states(self):
        """State of each node, or nothing while the controller does not answer yet."""
        try:
            lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
        except ClusterError:
            return {}
        return dict(line.split() for line in lines)

    def jobs(self):
        """One dictionary for each job and array task that the controller remembers."""
        lines = self.run("scontrol", "--oneliner", "show", "job").splitlines()
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]

    def wait(self, what, seconds, done):
        """Returns the first true value of done(); fails when a daemon ends or the time is over."""
        deadline = time.monotonic() + seconds
        while True:
            value = done()
            if value:
                return value
            for name, daemon in self.daemons.items():
                if not daemon.running():
                    raise ClusterError(f"{name} ended:\n" + tail(f"{self.folder}/{name}.out"))
            if time.monotonic() > deadline:
                raise ClusterError(f"waited {seconds} s for {what}")
            time.sleep(0.2)
