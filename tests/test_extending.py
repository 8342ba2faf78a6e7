"""What a user adds from a file of their own is planned, trained and transferred as the
library's.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from pydantic.dataclasses import dataclass
from scipy.stats import spearmanr

from scaling.models.backbone import Modules, build_encoder, make_head, modules_of
from scaling.models.compute import Compute
from scaling.models.parameters import keys_from, parameters_of
from scaling.objectives.build import build_objective
from scaling.objectives.interface import Objective
from scaling.runs.definitions import keep_experiment
from scaling.runs.experiment import REGISTERING, load_study
from scaling.runs.plan import make_plan
from scaling.runs.rundir import Status
from scaling.runs.steps import PretrainStep
from scaling.study.config import Mae, Pretrain, Task, ViT
from scaling.study.ladder import resolve_decoder, resolve_encoder
from scaling.study.objectives import OBJECTIVES, ObjectiveConfig, Work
from scaling.study.shapes import EncoderShape
from scaling.study.strict import STRICT
from scaling.training.mesh import global_batch, make_mesh
from scaling.training.program import pretraining_program
from tests.conftest import scaling
from tests.toy_extensions import Agreement, Patches

ROOT = Path(__file__).parents[1]
MICRO = ROOT / "tests" / "micro_study.py"
TOYS = (
    'objectives=[{"kind":"agreement"},{"kind":"agreement","name":"four","count":4}]',
    'families=[{"kind":"linear"}]',
    "pretrain.batch=12",
    "durations=[240]",
    "pretrain.warmup=24",
)


def test_plan_of_a_users_objective_and_backbone_has_their_costs() -> None:
    plan = make_plan(load_study(MICRO, TOYS))
    trunks = [step for step in plan.steps if step.kind == "trunk"]
    assert {step.config.objective.label for step in trunks} == {"agreement", "four"}  # type: ignore[union-attr]
    for step in trunks:
        assert isinstance(step.config, PretrainStep)
        assert step.parameters == (8**3 + 1) * 8
        # Forward and backward of one map of 27 patches, and what the objective compares.
        assert step.flops == step.samples * (3 * 2 * 27 * 8**3 * 8 + 3 * 2 * 8)
        assert step.memory > 0


STUDY = """
from scaling.study.config import Data, Execution, Finetune, Probe, Source, Study, Task, Transfer
from scaling.study.config import Volumes
from scaling.study.phantom import TEST_SCANNERS, Cohort, Phantom

def task(number, name, kind, sequences, shots):
    train, test = Source(f"fomo-task{number}"), Source(f"fomo-task{number}-test")
    return Task(name, kind, sequences, train, (test,), shots=(shots,), draws=1)

study = Study(
    name="toys",
    data=Data(
        root="cohort",
        pretraining=(Source("fomo60k"),),
        volumes=Volumes(spacing_mm=8.0, shape=(24, 24, 24)),
        phantom=Phantom(
            spacing_mm=6.0,
            pretraining_subjects=6,
            test_scanners=TEST_SCANNERS[:1],
            infarct=Cohort(4, 4),
            meningioma=Cohort(4, 2),
            brain_age=Cohort(6, 6),
        ),
    ),
    objectives=(Agreement(),),
    families=(Patches(),),
    sizes=("xxs",),
    durations=(120,),
    tasks=(
        task(1, "infarct", "classification", ("flair",), 4),
        task(2, "meningioma", "segmentation", ("flair",), 3),
        task(3, "age-order", "ordering", ("t1",), 6),
    ),
    pretrain=Pretrain(crop=(16, 16, 16), batch=12, warmup=24),
    transfer=Transfer(
        finetune=Finetune(steps=4, batch=2, learning_rates=(1e-3,), augment="none"),
        probe=Probe(),
        nsd_tolerance_mm=8.0,
    ),
    execution=Execution(workers=1),
)
"""


def test_study_of_a_users_own_kinds_runs_to_its_page_and_again_from_its_folder(
    tmp_path: Path,
) -> None:
    toys = (ROOT / "tests" / "toy_extensions.py").read_text()
    (tmp_path / "toys.py").write_text(toys + STUDY)
    done = scaling("run", "toys.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "toys"
    results = pd.read_parquet(folder / "results.parquet").query("task == 'age-order'")
    assert set(results["arm"]) == {"pretrained", "scratch", "random", "classical"}
    assert set(results["metric"]) == {"spearman"}
    assert set(results["protocol"]) == {"finetune", "probe", "neighbours", "ridge"}
    predictions = pd.read_parquet(folder / "predictions.parquet").query("task == 'age-order'")
    keys = ["run", "arm", "protocol", "draw", "site"]
    expected = {
        key: spearmanr(cases["label"], cases["prediction"]).statistic
        for key, cases in predictions.groupby(keys)
    }
    assert len(expected) == len(results)
    for row in results.itertuples():
        key = (row.run, row.arm, row.protocol, row.draw, row.site)
        assert row.value == pytest.approx(expected[key], nan_ok=True)
    assert "Rank correlation" in (folder / "report.html").read_text()
    # The folder holds what it needs: the experiment file may have gone.
    (tmp_path / "toys.py").unlink()
    step = folder / "transfer" / "classical-age-order"
    first = pd.read_parquet(step / "results.parquet")
    shutil.rmtree(step)
    again = scaling("step", "runs/toys", step.relative_to(folder), folder=tmp_path)
    assert again.returncode == 0, again.stderr
    pd.testing.assert_frame_equal(pd.read_parquet(step / "results.parquet"), first)


def test_subclass_that_is_not_registered_is_never_planned_as_its_parent() -> None:
    @dataclass(frozen=True, config=STRICT)
    class OtherMae(Mae):
        """A masked autoencoder with a change of a user's."""

    @dataclass(frozen=True, config=STRICT)
    class OtherViT(ViT):
        """A vision transformer with a change of a user's."""

    @dataclass(frozen=True, config=STRICT)
    class OtherTask(Task):
        """A task with a change of a user's."""

    study = load_study(MICRO)
    values = {field: getattr(study.tasks[0], field) for field in Task.__dataclass_fields__}
    changes: list[tuple[str, Any]] = [
        ("objectives", OtherMae()),
        ("families", OtherViT()),
        ("tasks", OtherTask(**values)),
    ]
    for field, entry in changes:
        changed: dict[str, Any] = {field: (entry,)}
        with pytest.raises(ValueError, match=f"{field} has an entry of class Other"):
            dataclasses.replace(study, **changed)


def test_changed_definition_is_refused_by_name_once_it_was_used(tmp_path: Path) -> None:
    toys = (ROOT / "tests" / "toy_extensions.py").read_text()
    file, folder = tmp_path / "toys.py", tmp_path / "runs"
    file.write_text(toys + STUDY)
    keep_experiment(file, folder, {"prepare": "done"})
    done: dict[str, Status] = {"prepare": "done", "pretrain/a": "done"}
    # The study itself, comments and what nothing registered uses may change.
    file.write_text(toys + STUDY.replace("durations=(120,)", "durations=(240,)") + "# a comment\n")
    keep_experiment(file, folder, done)
    assert "(240,)" in (folder / REGISTERING).read_text()
    file.write_text(toys.replace("FLOAT32 = 4", "FLOAT32 = 8") + STUDY)
    with pytest.raises(ValueError, match=r"toys.py defines FLOAT32 otherwise than"):
        keep_experiment(file, folder, done)
    keep_experiment(file, folder, {"prepare": "done", "pretrain/a": "failed"})
    assert "FLOAT32 = 8" in (folder / REGISTERING).read_text()


@pytest.mark.parametrize("family", [Patches(), ViT()], ids=lambda family: family.kind)
def test_users_objective_trains_and_its_statistics_are_carried(family: Patches | ViT) -> None:
    config, mesh = Agreement(), make_mesh(1, 1)
    recipe = Pretrain(crop=(16, 16, 16), batch=6, warmup=6)
    encoder, decoder = resolve_encoder(family, "xxs"), resolve_decoder(family)
    program = pretraining_program(config, encoder, decoder, recipe, mesh)
    state = program.init(jax.random.key(0))
    shape = config.batch_shape(recipe.batch, recipe.crop)
    assert shape == (2, 3, 16, 16, 16)
    batch = np.random.default_rng(0).normal(size=shape).astype(np.float16)
    weights = []
    for _ in range(3):
        before = np.asarray(state.means["centre"])
        volumes = global_batch(mesh, batch)
        state, metrics = program.step(state, volumes, jax.random.key(1), 1e-3, 10, 20)
        weights.append(float(metrics["weight"]))
        # The centre moves by a tenth of the way to the mean embedding.
        mean = np.asarray(metrics["embeddings"]).mean(0)
        np.testing.assert_allclose(state.means["centre"], 0.9 * before + 0.1 * mean, atol=1e-5)
    assert weights == pytest.approx([1, 1 / 2, 1 / 3])


def test_users_backbone_takes_the_heads_of_all_kinds_of_tasks() -> None:
    encoder = resolve_encoder(Patches(), "xs")
    functions = build_encoder(encoder)
    parameters = jax.jit(functions.init)(jax.random.key(0))
    tokens = functions.features(parameters, jnp.zeros((2, 16, 16, 16)))[0][:, None]
    for masks, expected in ((False, (2,)), (True, (2, 16, 16, 16))):
        head = make_head(1, masks, encoder, 1, (16, 16, 16), keys_from(jax.random.key(1)))
        assert parameters_of(head)
        assert head((tokens,), jnp.ones((2, 1), bool)).shape == expected


def test_views_that_do_not_divide_the_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"learns from 3 views of a case: pretrain.batch=8"):
        load_study(MICRO, ['objectives=[{"kind":"agreement"}]'])


def test_classes_that_nothing_registered_are_refused_by_name() -> None:
    class Unknown(ObjectiveConfig):
        pass

    class UnknownShape(EncoderShape):
        pass

    shapes = resolve_encoder(ViT(), "xxs"), resolve_decoder(ViT())
    with pytest.raises(TypeError, match=r"class Unknown; expected .*register_objective"):
        build_objective(Unknown(), *shapes, Pretrain(), Compute())
    with pytest.raises(TypeError, match=r"class UnknownShape; expected .*register_backbone"):
        modules_of(UnknownShape("unknown", 8))
    with pytest.raises(ValueError, match=r"objectives.0"):
        load_study(MICRO, ['objectives=[{"kind":"not there"}]'])


def test_a_kind_that_is_taken_is_refused() -> None:

    class Other(Mae):
        pass

    with pytest.raises(ValueError, match="Other has kind 'mae', which Mae has among objectives"):
        OBJECTIVES.register(Other)


def test_page_on_extending_names_every_part_of_the_interfaces() -> None:
    page = (ROOT / "docs" / "extending.md").read_text()

    for name in (*Modules._fields, *Objective._fields, *Work.__dataclass_fields__):
        assert f"`{name}`" in page or f"`{name}(" in page, name
