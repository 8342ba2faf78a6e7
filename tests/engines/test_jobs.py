"""A plan as jobs, and the facts of the cluster they run on."""

from pathlib import Path

import pytest

from scaling.engines.jobs import Cluster, does_not_fit, load_cluster, make_jobs
from scaling.engines.slurm import options, submit, write_script
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from tests.conftest import EXPERIMENT

CLUSTERS = Path(__file__).parents[2] / "experiments/clusters"


def test_steps_of_one_checkpoint_are_one_job_and_needs_are_its_checkpoint() -> None:
    jobs = {
        job.name: job
        for job in make_jobs(make_plan(load_study(EXPERIMENT, ["execution.mesh=[2,4]"])))
    }
    assert len(jobs) == 10
    assert [step.name for step in jobs["prepare"].steps] == ["phantom", "prepare"]
    tried = jobs["transfer/mae-xxs-seed0-160"]
    assert [step.name.rpartition("-")[2] for step in tried.steps] == [
        "infarct",
        "meningioma",
        "age",
    ]
    assert tried.needs == ("pretrain/mae-xxs-seed0-160",)
    assert jobs["pretrain/mae-xxs-seed0-160"].needs == ("pretrain/mae-xxs-seed0-trunk-128",)
    assert jobs["transfer/classical"].needs == ("prepare",)
    assert {job.name: job.devices for job in jobs.values() if job.devices != 1} == {
        name: 8 for name in jobs if name.startswith("pretrain/")
    }


def test_job_asks_for_whole_nodes_and_for_as_much_as_its_devices_need() -> None:
    jobs = {
        job.name: job
        for job in make_jobs(make_plan(load_study(EXPERIMENT, ["execution.mesh=[2,4]"])))
    }
    cluster = Cluster(
        devices_per_node=4,
        gres="gpu:a100",
        partition="gpu",
        cpus_per_device=3,
        memory_per_device_gb=10,
        options=("--qos=low",),
    )
    large = options(Path("runs/micro"), jobs["pretrain/mae-xxs-seed0-160"], ["7", "8"], cluster)
    assert {
        "--nodes=2",
        "--gres=gpu:a100:4",
        "--cpus-per-task=12",
        "--mem=40G",
        "--dependency=afterok:7:8",
        "--qos=low",
    } <= set(large)
    small = options(Path("runs/micro"), jobs["report"], ["7"], cluster)
    assert {
        "--nodes=1",
        "--gres=gpu:a100:1",
        "--cpus-per-task=3",
        "--dependency=afterany:7",
    } <= set(small)
    with pytest.raises(ValueError, match="has 8 devices, which do not fill nodes of 3"):
        options(
            Path("runs/micro"), jobs["pretrain/mae-xxs-seed0-160"], [], Cluster(devices_per_node=3)
        )


def test_job_runs_its_steps_with_the_clusters_command() -> None:
    jobs = {job.name: job for job in make_jobs(make_plan(load_study(EXPERIMENT)))}
    cluster = Cluster(
        1, command="apptainer exec --nv scaling.sif scaling", setup=("module load cuda",)
    )
    script = write_script(Path("runs/micro"), jobs["report"], cluster)
    assert "module load cuda\n" in script
    assert (
        "srun --kill-on-bad-exit=1 apptainer exec --nv scaling.sif scaling step runs/micro collect report\n"
        in script
    )


def test_step_that_does_not_fit_is_told_before_anything_is_submitted(tmp_path: Path) -> None:
    plan = make_plan(load_study(EXPERIMENT, ["pretrain.batch=4000000", "durations=[20000000]"]))
    assert "trunk-16000000 does not fit: it needs" in does_not_fit(plan)
    assert "cpu-2 has 16 GB" in does_not_fit(plan)
    small = make_plan(load_study(EXPERIMENT))
    assert not does_not_fit(small)
    with pytest.raises(
        ValueError,
        match=r"does not fit: it needs 0.0 GB on each of 1 devices, and a device of this cluster has 0 GB",
    ):
        submit(tmp_path, small, {}, Cluster(devices_per_node=1, device_memory_gb=0.001))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "devices_per_node = 8\ngpus = 3",
            r"facts.toml: gpus: Unexpected keyword argument \(found 3\)",
        ),
        (
            "devices_per_node = 'many'",
            "facts.toml: devices_per_node: Input should be a valid integer",
        ),
        ("devices_per_node = 0", "devices_per_node is 0; expected more than 0"),
        ("devices_per_node 8", "facts.toml is not valid TOML"),
    ],
)
def test_wrong_cluster_facts_are_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "facts.toml").write_text(text)
    with pytest.raises(ValueError, match=words):
        load_cluster(tmp_path / "facts.toml")


def test_example_of_cluster_facts_can_be_read() -> None:
    assert load_cluster(CLUSTERS / "slurm-a100.toml").gres == "gpu:a100"
