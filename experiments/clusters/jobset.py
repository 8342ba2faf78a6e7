"""Write a study as Kubernetes JobSets, one for each level of needs.

    python experiments/clusters/jobset.py runs/STUDY IMAGE CLAIM > jobsets.yaml
    kubectl apply -f jobsets.yaml

Shows: that any scheduler drives a study through `scaling step`. Costs: nothing until it is applied.
Ends in: a manifest for the JobSet controller (jobset.x-k8s.io). Run it again after a level is
complete: what is done is left out. GPUs by default; for a TPU pod slice see `tpu_pods` below.
"""

import sys
from pathlib import Path

from scaling.engines.jobset import Pods, as_yaml, job_sets
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from scaling.runs.rundir import plan_status


def tpu_pods(image: str, claim: str) -> Pods:
    """A v5e slice of 4 x 4 chips: four pods of four chips."""
    return Pods(
        image=image,
        claim=claim,
        devices_per_pod=4,
        resource="google.com/tpu",
        selector=(
            ("cloud.google.com/gke-tpu-accelerator", "tpu-v5-lite-podslice"),
            ("cloud.google.com/gke-tpu-topology", "4x4"),
        ),
    )


def main() -> None:
    """Print the manifest of the study's folder that is named first."""
    if len(sys.argv) not in (4, 5):
        sys.exit(f"usage: {sys.argv[0]} STUDY_FOLDER IMAGE CLAIM [tpu]")
    study_dir, image, claim = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    pods = tpu_pods(image, claim) if sys.argv[4:] == ["tpu"] else Pods(image, claim)
    plan = make_plan(load_study(study_dir))
    sys.stdout.write(as_yaml(job_sets(study_dir, plan, plan_status(study_dir, plan), pods)))


if __name__ == "__main__":
    main()
