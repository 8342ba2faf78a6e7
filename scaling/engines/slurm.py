"""Carry a plan out as SLURM jobs: we plan, SLURM schedules. Needs no accounting, no rights, and no process that stays.

What is done is told by the run directories; what is queued, by `squeue`: a job carries its study's folder and its own name
as its comment. So any of these commands can be killed and called again.
"""

import getpass
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from scaling.engines.engine import Queued
from scaling.engines.jobs import Cluster, Job, does_not_fit, make_jobs
from scaling.files import write_text
from scaling.runs.plan import Plan
from scaling.runs.rundir import Status

# A run that was told to stop has saved and exits with 85: queue it again. Likewise one that was killed, three times at most.
SCRIPT = """\
#!/bin/bash
cd {folder}
{setup}
trap : TERM USR2
srun --kill-on-bad-exit=1 {command} step {study} {steps}
code=$?
if [ $code -eq 85 ] || {{ [ $code -eq 137 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt 3 ]; }}; then
  # A cancelled job is no longer running, and stays cancelled.
  scontrol show job "$SLURM_JOB_ID" | grep -q JobState=RUNNING && scontrol requeue "$SLURM_JOB_ID" && sleep 60
fi
exit $code
"""


def submit(
    study_dir: Path, plan: Plan, statuses: Mapping[str, Status], cluster: Cluster
) -> dict[str, str]:
    """Submit every job that has something to do and is not queued. Returns the ids by name.

    Raises ValueError when a step does not fit into a device's memory or the mesh does not fill nodes, or, in its own words, when SLURM
    refuses.
    """
    if sentence := does_not_fit(plan, cluster.device_memory_gb):
        raise ValueError(sentence)
    queue = queued(study_dir)
    live = {name: job.id for name, job in queue.items()}
    submitted: dict[str, str] = {}
    for job in make_jobs(plan):
        finished = all(statuses[step.name] == "done" for step in job.steps)
        if job.name in queue or (finished and not (job.name == "report" and submitted)):
            continue
        script = study_dir / "jobs" / f"{job.name.replace('/', '_')}.sh"
        write_text(script, write_script(study_dir, job, cluster))
        waits = [live[need] for need in job.needs if need in live]
        live[job.name] = submitted[job.name] = call(
            "sbatch", *options(study_dir, job, waits, cluster), str(script)
        ).split(";")[0]
    return submitted


def write_script(study_dir: Path, job: Job, cluster: Cluster) -> str:
    """The batch script of a job."""
    return SCRIPT.format(
        folder=shlex.quote(str(Path.cwd())),
        setup="\n".join(cluster.setup),
        command=cluster.command or f"{shlex.quote(sys.executable)} -m scaling",
        study=shlex.quote(str(study_dir)),
        steps=" ".join(shlex.quote(step.name) for step in job.steps),
    )


def options(study_dir: Path, job: Job, waits: list[str], cluster: Cluster) -> list[str]:
    """Options of sbatch for a job that waits for the jobs `waits`. The report is made of whatever has come of them."""
    nodes, rest = divmod(job.devices, cluster.devices_per_node)
    if nodes and rest:
        raise ValueError(
            f"execution.mesh has {job.devices} devices, which do not fill nodes of {cluster.devices_per_node}; "
            "choose a multiple of devices_per_node, or less than one node"
        )
    devices = min(job.devices, cluster.devices_per_node)
    minutes = min(cluster.max_hours, job.hours) * 60
    log = study_dir / "jobs" / f"{job.name.replace('/', '_')}.log"
    chosen = [
        "--parsable",
        "--requeue",
        "--open-mode=append",
        "--kill-on-invalid-dep=yes",
        f"--job-name={study_dir.name}/{job.name}",
        f"--comment={identity(study_dir, job.name)}",
        f"--output={log}",
        f"--nodes={max(nodes, 1)}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={devices * cluster.cpus_per_device}",
        f"--time={max(1, round(minutes))}",
        f"--signal=USR2@{cluster.grace_seconds}",
    ]
    if waits:
        chosen.append(
            f"--dependency={'afterany' if job.name == 'report' else 'afterok'}:{':'.join(waits)}"
        )
    if cluster.gres:
        chosen.append(f"--gres={cluster.gres}:{devices}")
    if cluster.memory_per_device_gb:
        chosen.append(f"--mem={devices * cluster.memory_per_device_gb}G")
    if cluster.partition:
        chosen.append(f"--partition={cluster.partition}")
    if cluster.account:
        chosen.append(f"--account={cluster.account}")
    return [*chosen, *cluster.options]


def identity(study_dir: Path, job: str) -> str:
    """What a queued job is recognised by."""
    return f"{study_dir.resolve()}#{job}"


def queued(study_dir: Path) -> dict[str, Queued]:
    """The jobs of a study that are pending, running or ending, by name."""
    jobs = {}
    for line in call(
        "squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i|%T|%r|%k"
    ).splitlines():
        number, state, reason, comment = line.split("|", 3)
        folder, _, name = comment.rpartition("#")
        if folder == str(study_dir.resolve()):
            jobs[name] = Queued(number, state, reason)
    return jobs


def cancel(study_dir: Path) -> list[str]:
    """Cancel every queued or running job of a study; what they saved stays. Returns their names."""
    jobs = queued(study_dir)
    if jobs:
        call("scancel", *(job.id for job in jobs.values()))
    return list(jobs)


def call(command: str, *arguments: str) -> str:
    """Run one of SLURM's commands. Raises ValueError with its own words when it fails."""
    if shutil.which(command) is None:
        raise ValueError(
            f"there is no {command} on this machine; run where SLURM's client is installed, or with --engine local"
        )
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ValueError(f"{command} failed: {'; '.join(words)}")
    return done.stdout.strip()
