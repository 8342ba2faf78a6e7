"""A SLURM cluster of two nodes on this machine, from nothing: no root, no accounting, nothing left
behind outside its folder.

Debian: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
PATH = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"

# A requeued job waits for the old credential to expire. Jobs of the partition "urgent" push those
# of "main" off their nodes.
CONFIG = """\
ClusterName=cold
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={sockets}/munge,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={sockets}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
ReturnToService=2
AccountingStorageType=accounting_storage/none
NodeName=127.0.0.1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=4 RealMemory=4000 State=UNKNOWN
NodeName=127.0.0.2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES DefaultTime=10 PriorityTier=1 PreemptMode=REQUEUE GraceTime=300 State=UP
PartitionName=urgent Nodes=ALL DefaultTime=10 PriorityTier=10 PreemptMode=OFF State=UP
"""


def installed() -> bool:
    """Whether this machine has SLURM's daemons."""
    return all(shutil.which(program, path=PATH) for program in PROGRAMS)


@contextmanager
def cold_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start the daemons with everything in `folder`; gives the environment in which SLURM's
    commands find them.
    """
    for name in ("munge", "state"):
        (folder / name).mkdir(parents=True, mode=0o755)
    sockets = Path(
        tempfile.mkdtemp(prefix="slurm-")
    )  # the path of a socket has 108 letters at most
    sockets.chmod(0o755)
    (folder / "munge/key").write_bytes(os.urandom(128))
    (folder / "munge/key").chmod(0o400)
    ports = dict(zip(("port", "first", "second"), free_ports(3), strict=True))
    text = CONFIG.format(
        host=socket.gethostname().split(".")[0],
        user=getpass.getuser(),
        folder=folder,
        sockets=sockets,
        **ports,
    )
    (folder / "slurm.conf").write_text(text)
    environment = {**os.environ, "PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}
    munge = [f"--{name}-file={folder}/munge/{name}" for name in ("key", "log", "pid", "seed")]

    def start(*command: str) -> None:
        subprocess.run(command, env=environment, check=True)

    try:
        start("munged", "-f", f"--socket={sockets}/munge", *munge)
        start("slurmctld")
        for node in ("127.0.0.1", "127.0.0.2"):
            start("slurmd", "-N", node)
        wait_for(
            lambda: (
                say(
                    environment,
                    "sinfo",
                    "--noheader",
                    "--Node",
                    "--partition=main",
                    "--states=idle",
                ).count("\n")
                == 1
            ),
            60,
        )
        yield environment
    finally:
        for file in [*folder.glob("slurmd.*.pid"), folder / "slurmctld.pid", folder / "munge/pid"]:
            if file.exists():
                os.kill(int(file.read_text()), signal.SIGTERM)
        shutil.rmtree(sockets, ignore_errors=True)  # the daemons are still leaving


def say(environment: dict[str, str], *command: str) -> str:
    """What one of SLURM's commands prints."""
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def wait_for(ready, seconds: float) -> None:  # type: ignore[no-untyped-def]
    """Wait until `ready()`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
