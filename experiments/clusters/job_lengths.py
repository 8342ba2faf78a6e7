"""The jobs of the challenges' studies at every scale: how many, and how long by the plan's hours.

python experiments/clusters/job_lengths.py
"""

from pathlib import Path

from scaling.engines.jobs import Cluster, make_jobs, pack
from scaling.engines.slurm import arrays
from scaling.runs.durations import longest_part, plan_seconds
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan

EXPERIMENTS = Path(__file__).parents[1]
SHORT = 3 / 60  # hours
CLUSTER = Cluster(devices_per_node=8)


def main() -> None:
    """Print the table. Hours are those of a job on its own devices, a part's those of one device:
    the longest stretch of a transfer that is saved only once it is whole.
    """
    print(
        "| study | steps | jobs, a step each (under 3 minutes) | packed (under 3 minutes) | arrays "
        "| hours: median | longest job | longest step | longest part |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for experiment in ("fomo25", "fomo26"):
        for scale in ("tiny", "small", "full"):
            study = load_study(EXPERIMENTS / f"{experiment}.py", (), scale)
            plan = make_plan(study)
            jobs = make_jobs(plan)
            packed = pack(jobs, CLUSTER.job_hours)
            hours = sorted(job.expected for job in packed)
            accelerator = study.execution.accelerator
            part = max(longest_part(step, accelerator) for step in plan.steps) / 3600
            print(
                f"| {experiment} {scale}, {accelerator} | {len(plan.steps):,} "
                f"| {len(jobs)} ({sum(job.expected < SHORT for job in jobs)}) "
                f"| {len(packed)} ({sum(job.expected < SHORT for job in packed)}) "
                f"| {len(arrays(packed, CLUSTER))} "
                f"| {hours[len(hours) // 2]:.2f} | {hours[-1]:.1f} "
                f"| {max(plan_seconds(plan).values()) / 3600:.1f} | {part:.2f} |"
            )


if __name__ == "__main__":
    main()
