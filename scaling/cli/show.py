"""`scaling data show`: a picture of what a model is trained on."""

from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.locate import locate
from scaling.cli.studies import RUNS, Experiment, Out, Set
from scaling.cli.terminal import console
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from scaling.runs.steps import PretrainStep


def data_show(
    experiment: Experiment,
    set_: Set = None,
    out: Out = RUNS,
    picture: Annotated[Path, typer.Option(help="PNG to write.")] = Path("show.png"),
    scans: Annotated[int, typer.Option(help="Number of crops, one a row.", min=1)] = 6,
    step: Annotated[int, typer.Option(help="Training step whose batch is shown.", min=0)] = 0,
) -> None:
    """Draw the crops of one training step as PNG.

    A column shows them as they are read, the others under every preset of augmentation. Needs the
    prepared cache.
    """
    from scaling.cli.sheet import draw_sheet, training_views
    from scaling.data.cache import open_cache

    study = load_study(locate(experiment, out), set_ or ())
    cache = out / study.name / "prepare" / "cache"
    if not (cache / "index.parquet").exists():
        raise FileNotFoundError(
            f"{cache} is not prepared; run `scaling step {experiment} prepare` first"
        )
    config = next(
        planned.config
        for planned in make_plan(study).steps
        if isinstance(planned.config, PretrainStep)
    )
    names, views = training_views(open_cache(cache), config, step, scans)
    headings = [
        "as read",
        *(
            f"{preset} (trained on)" if preset == config.pretrain.augment else preset
            for preset in list(views)[1:]
        ),
    ]
    draw_sheet(names, headings, list(views.values())).save(picture)
    console.print(
        f"{picture}: the first {len(names)} crops of step {step}, middle slices",
        markup=False,
        highlight=False,
    )
