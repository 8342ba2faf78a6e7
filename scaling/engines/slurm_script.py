"""The batch script of an array of jobs, and the options of sbatch for it."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from scaling.engines.jobs import Cluster, Job

# 85: told to stop, saved. 137, 140, 143: killed, by USR2, by TERM before it could save. All go on
# from what is on the disk, so they are queued again; a cancelled job is no longer running, and is
# not.
SCRIPT = """\
#!/bin/bash
# Written by `scaling run --engine slurm`; array {array}.
cd {folder} || exit 1
study={study}
case "$SLURM_ARRAY_TASK_ID" in
{cases}
  *) echo "no steps for task $SLURM_ARRAY_TASK_ID"; exit 1 ;;
esac
{setup}
trap : TERM USR2 HUP
# The names of what the steps have written: they change with every checkpoint and finished step.
progress() {{
  for step in "$@"; do
    find "$study/$step" -type f ! -name '.*' ! -name LOCK ! -name ERROR ! -name attempts.jsonl
  done 2>/dev/null | sort | cksum
}}
before=$(progress "$@")
srun --kill-on-bad-exit=1 {command} step "$study" "$@"
code=$?
case $code in
  85|137|140|143) ;;
  *) exit $code ;;
esac
restarts={restarts}_$SLURM_ARRAY_TASK_ID.restarts
count=0
if [ "$(progress "$@")" = "$before" ]; then
  count=$(($(cat "$restarts" 2>/dev/null || echo 0) + 1))
fi
echo $count > "$restarts"
if [ $count -gt {max_restarts} ]; then
  echo "ended with code $code after {max_restarts} restarts without progress; not queued again"
  rm -f "$restarts"
  exit 1
fi
if scontrol show job "$SLURM_JOB_ID" | grep -q JobState=RUNNING; then
  scontrol requeue "$SLURM_JOB_ID" && sleep 60
fi
exit $code
"""


def write_script(study_dir: Path, array: str, jobs: Sequence[Job], cluster: Cluster) -> str:
    """The batch script of an array: one task for each job."""
    cases = []
    for number, job in enumerate(jobs):
        steps = " ".join(shlex.quote(step.name) for step in job.steps)
        cases.append(f"  {number}) set -- {steps} ;;")
    return SCRIPT.format(
        array=array,
        folder=shlex.quote(str(Path.cwd())),
        study=shlex.quote(str(study_dir)),
        cases="\n".join(cases),
        setup="\n".join(cluster.setup),
        command=cluster.command or f"{shlex.quote(sys.executable)} -m scaling",
        restarts=shlex.quote(str(study_dir / "jobs" / array)),
        max_restarts=cluster.max_restarts,
    )


def options(
    study_dir: Path, array: str, jobs: Sequence[Job], waits: Sequence[str], cluster: Cluster
) -> list[str]:
    """Options of sbatch for an array of jobs that starts once the arrays `waits` have ended,
    however they ended: a step whose needs are not done says so, and all others of the array go on.

    Raises ValueError when the mesh does not fill nodes.
    """
    devices = jobs[0].devices
    nodes, rest = divmod(devices, cluster.devices_per_node)
    if nodes and rest:
        raise ValueError(
            f"execution.mesh has {devices} devices, which do not fill nodes of "
            f"{cluster.devices_per_node}; choose a multiple of devices_per_node, or less than one "
            "node"
        )
    per_node = min(devices, cluster.devices_per_node)
    minutes = min(cluster.max_hours, max(job.hours for job in jobs)) * 60
    limit = f"%{cluster.max_running}" if cluster.max_running else ""
    # In the name of a log % is a placeholder of SLURM's, and %% is a %.
    log = str(study_dir / "jobs" / array).replace("%", "%%")
    chosen = [
        "--parsable",
        "--requeue",
        "--open-mode=append",
        f"--array=0-{len(jobs) - 1}{limit}",
        f"--job-name={study_dir.name}/{array}",
        f"--comment={identity(study_dir, array)}",
        f"--output={log}_%a.log",
        f"--nodes={max(nodes, 1)}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={per_node * cluster.cpus_per_device}",
        f"--time={max(1, round(minutes))}",
        f"--signal=USR2@{cluster.grace_seconds}",
    ]
    if waits:
        chosen.append(f"--dependency=afterany:{':'.join(waits)}")
    if cluster.gres:
        chosen.append(f"--gres={cluster.gres}:{per_node}")
    if cluster.memory_per_device_gb:
        chosen.append(f"--mem={per_node * cluster.memory_per_device_gb}G")
    if cluster.partition:
        chosen.append(f"--partition={cluster.partition}")
    if cluster.account:
        chosen.append(f"--account={cluster.account}")
    return [*chosen, *cluster.options]


def identity(study_dir: Path, array: str) -> str:
    """What a queued array is recognised by."""
    return f"{study_dir.resolve()}#{array}"
