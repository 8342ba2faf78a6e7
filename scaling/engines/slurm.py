"""Carry a plan out as SLURM jobs: we plan, SLURM schedules. Needs no accounting, no rights, and no
process that stays.

What is done is told by the run directories; what is queued, by `squeue`: an array of jobs carries
its study's folder and its own name as its comment, and `jobs/ARRAY.json` says which steps its tasks
run. So any of these commands can be killed and called again.
"""

import getpass
import math
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.engines.engine import Queued, Submitted
from scaling.engines.jobs import (
    Cluster,
    Job,
    does_not_fit,
    levels,
    make_jobs,
    pack,
    takes_too_long,
)
from scaling.engines.slurm_script import options, write_script
from scaling.files import read_marker, write_json, write_text
from scaling.runs.plan import Plan
from scaling.runs.rundir import DESCRIBING, Status


@dataclass(frozen=True)
class Submission:
    """What a call has submitted: the arrays' ids and jobs, and why the rest stayed out, if any."""

    arrays: Mapping[str, Sequence[Job]]  # SLURM's id -> jobs
    left_out: Sequence[Job] = ()
    reason: str = ""

    @property
    def jobs(self) -> int:
        """Jobs that went in."""
        return sum(map(len, self.arrays.values()))


def submit(
    study_dir: Path,
    plan: Plan,
    statuses: Mapping[str, Status],
    cluster: Cluster,
    max_jobs: int = 0,
) -> Submission:
    """Submit every step that is neither done nor queued, as arrays of jobs, one or more per level
    of needs; at most so many that `max_jobs` are queued in all (0: no limit).

    What SLURM does not take any more is left out, and so is what would come after it. Raises
    ValueError when a step does not fit into a device's memory or into a job's time, or the mesh
    does not fill nodes, or, in its own words, when SLURM takes nothing.
    """
    if sentence := does_not_fit(plan, cluster.device_memory_gb):
        raise ValueError(sentence)
    unfinished = [step for step in plan.steps if statuses[step.name] != "done"]
    accelerator = plan.study.execution.accelerator
    if sentence := takes_too_long(unfinished, accelerator, cluster.max_hours):
        raise ValueError(sentence)
    queue = queued(study_dir)
    waiting_in = tasks_of_steps(study_dir, queue)
    left = [
        step.name
        for step in unfinished
        if step.name not in waiting_in and step.kind not in DESCRIBING
    ]
    describing = [step.name for step in plan.steps if step.kind in DESCRIBING]
    if left or not all(statuses[name] == "done" or name in waiting_in for name in describing):
        left += describing  # table and report follow whatever is added
    jobs = pack(make_jobs(plan, left), cluster.job_hours)
    array_of_step = {name: job.partition("_")[0] for name, job in waiting_in.items()}
    submitted: dict[str, Sequence[Job]] = {}
    pending = list(arrays(jobs, cluster))
    room = max_jobs - len(queue) if max_jobs else math.inf
    while pending:
        tasks = pending[0]
        if len(tasks) > room:
            reason = f"--max-jobs {max_jobs}"
            return Submission(submitted, flat(pending), reason)
        needs = {need for job in tasks for step in job.steps for need in step.needs}
        waits = sorted({array_of_step[need] for need in needs if need in array_of_step}, key=int)
        try:
            number = submit_array(study_dir, tasks, waits, cluster)
        except ValueError as error:
            if not submitted:
                raise
            return Submission(submitted, flat(pending), str(error))
        submitted[number] = tasks
        array_of_step |= {step.name: number for job in tasks for step in job.steps}
        room -= len(tasks)
        pending.pop(0)
    return Submission(submitted)


def flat(arrays: Sequence[Sequence[Job]]) -> list[Job]:
    """The jobs of several arrays."""
    return [job for tasks in arrays for job in tasks]


def arrays(jobs: Sequence[Job], cluster: Cluster) -> list[list[Job]]:
    """Jobs that can be one array: of one level of needs, of as many devices, and of a similar
    length, as an array has one time limit. In an order that respects needs.
    """
    depth = levels(jobs)
    together: dict[tuple[int, int, int], list[Job]] = {}
    for job in jobs:
        hours = min(job.hours, cluster.max_hours)
        key = (depth[job.name], job.devices, math.ceil(math.log2(hours)))
        together.setdefault(key, []).append(job)
    chunks = []
    for key in sorted(together):
        tasks = together[key]
        for begin in range(0, len(tasks), cluster.max_array):
            chunks.append(tasks[begin : begin + cluster.max_array])
    return chunks


def submit_array(
    study_dir: Path, jobs: Sequence[Job], waits: Sequence[str], cluster: Cluster
) -> str:
    """Submit jobs as one array. Returns its id."""
    folder = study_dir / "jobs"
    array = f"array{len(list(folder.glob('*.json'))):04d}"
    record = {
        "id": "",
        "jobs": [
            {"name": job.name, "steps": [step.name for step in job.steps], "hours": job.hours}
            for job in jobs
        ],
    }
    script = folder / f"{array}.sh"
    chosen = options(study_dir, array, jobs, waits, cluster)
    write_text(script, write_script(study_dir, array, jobs, cluster))
    # Before the jobs exist: whatever happens to this process, their steps are recognised in the
    # queue.
    write_json(folder / f"{array}.json", record)
    try:
        number = call("sbatch", *chosen, str(script)).split(";")[0]
    except ValueError:
        (folder / f"{array}.json").unlink()
        raise
    write_json(folder / f"{array}.json", {**record, "id": number})
    return number


def submitted_jobs(study_dir: Path) -> list[tuple[str, Submitted]]:
    """Every job ever submitted for a study, the oldest first, each with "ARRAY_TASK"."""
    jobs = []
    for file in sorted((study_dir / "jobs").glob("*.json")):
        record = read_marker(file) or {"jobs": []}
        for number, job in enumerate(record["jobs"]):
            task = f"{file.stem}_{number}"
            id_ = f"{record['id']}_{number}" if record["id"] else ""
            log = study_dir / "jobs" / f"{task}.log"
            jobs.append((task, Submitted(id_, job["name"], tuple(job["steps"]), log)))
    return jobs


def tasks_of_steps(study_dir: Path, queue: Mapping[str, Queued]) -> dict[str, str]:
    """Step -> SLURM's id of the queued task that will run it."""
    tasks: dict[str, str] = {}
    for task, job in submitted_jobs(study_dir):
        if task in queue:
            tasks |= dict.fromkeys(job.steps, queue[task].id)
    return tasks


def queued(study_dir: Path) -> dict[str, Queued]:
    """The jobs of a study that are pending, running or ending, by "ARRAY_TASK"."""
    command = ("squeue", "--noheader", "--array", f"--user={getpass.getuser()}")
    jobs = {}
    for line in call(*command, "--format=%i|%T|%r|%k").splitlines():
        number, state, reason, comment = line.split("|", 3)
        folder, _, array = comment.rpartition("#")
        if folder == str(study_dir.resolve()):
            jobs[f"{array}_{number.rpartition('_')[2]}"] = Queued(number, state, reason)
    return jobs


def ended_states(ids: Sequence[str]) -> dict[str, str]:
    """How jobs ended, by their ids: OUT_OF_MEMORY, TIMEOUT, NODE_FAIL, ...; those of which SLURM
    knows nothing any more are missing. Asks the accounts, or, where none are kept, the controller.
    """
    if not ids:
        return {}
    try:
        lines = call(
            "sacct", "--noheader", "--parsable2", "--format=JobID,State", f"--jobs={','.join(ids)}"
        )
        states = dict(line.split("|", 1) for line in lines.splitlines() if "." not in line)
        return {number: state.split()[0] for number, state in states.items() if state}
    except ValueError:
        return {number: state for number in ids if (state := controller_state(number))}


def controller_state(number: str) -> str:
    """How a job ended, as SLURM's controller remembers it for some minutes; "" when it does not."""
    try:
        facts = call("scontrol", "--oneliner", "show", "job", number)
    except ValueError:
        return ""
    states = [word.partition("=")[2] for word in facts.split() if word.startswith("JobState=")]
    return states[0] if states else ""


def cancel(study_dir: Path) -> list[str]:
    """Cancel every queued or running job of a study; what they saved stays. Returns their names."""
    jobs = queued(study_dir)
    if jobs:
        call("scancel", *sorted({job.id.partition("_")[0] for job in jobs.values()}))
    names = {task: job.name for task, job in submitted_jobs(study_dir)}
    return [names.get(task, task) for task in jobs]


def call(command: str, *arguments: str) -> str:
    """Run one of SLURM's commands. Raises ValueError with its own words when it fails."""
    if shutil.which(command) is None:
        raise ValueError(
            f"there is no {command} on this machine; run where SLURM's client is installed, or "
            "with --engine local"
        )
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ValueError(f"{command} failed: {'; '.join(words)}")
    return done.stdout.strip()
