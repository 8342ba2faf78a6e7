"""A study's report in Weights & Biases.

One run per study holds panels of size against performance, the table of results and the page.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import wandb

from scaling.laws.known_metrics import label_of
from scaling.laws.series import series_of
from scaling.runs.plan import Plan
from scaling.tracking.wandb_run import open_wandb, run_id
from scaling.transfer.collect import RESULTS


def publish_report(study_dir: Path, plan: Plan) -> str:
    """Write the study's report run, replacing an earlier one. Returns where it is, in a sentence.

    Raises FileNotFoundError when there is no report yet, ValueError when W&B is disabled.
    """
    page, table = study_dir / "report.html", study_dir / RESULTS
    if not page.exists() or not table.exists():
        raise FileNotFoundError(
            f"{study_dir} has no report.html and {RESULTS} to publish; run `scaling report` first"
        )
    study = plan.study
    run = open_wandb(
        study_dir,
        study.execution,
        project=study.name,
        group="report",
        job_type="report",
        name="report",
        id=run_id(study.name, "report", {}),
        config={"sizes": list(study.sizes), "durations": list(study.durations)},
    )
    if run is None:
        raise ValueError(
            "W&B is disabled (execution.wandb or WANDB_MODE); expected auto, online or offline"
        )
    results = pd.read_parquet(table)
    panels = size_panels(results, study.estimand.protocol, study.estimand.domain)

    def page_artifact(run: wandb.Run) -> None:
        artifact = wandb.Artifact(f"{study.name}-report", "report")
        artifact.add_file(str(page))
        artifact.add_file(str(study_dir / "results.csv"))
        run.log_artifact(artifact)

    for title, panel in panels.items():
        panel_name = re.sub(r"[^\w.]+", "-", f"size {title}").strip("-")
        run.tell(partial(log_panel, name=panel_name, chart=size_chart(panel, title)))
    run.tell(lambda run: run.log({"results": wandb.Table(dataframe=results)}))
    run.tell(page_artifact)
    run.finish(0)
    if run.run.offline:
        return f"W&B: {run.run.dir} (offline; `scaling sync {study_dir}` uploads it)"
    return f"W&B: {run.run.url}"


def size_chart(panel: pd.DataFrame, title: str) -> Any:
    """A W&B chart of performance against parameters, a line per duration."""
    sizes, scores, names = [], [], []
    for duration, line in panel.groupby("duration"):
        sizes.append(line["params"].tolist())
        scores.append(line["value"].tolist())
        names.append(f"{duration:,} samples")
    return wandb.plot.line_series(sizes, scores, keys=names, title=title, xname="parameters")


def log_panel(run: wandb.Run, name: str, chart: Any) -> None:
    """Log one chart under its name."""
    run.log({name: chart})


def size_panels(results: pd.DataFrame, protocol: str, domain: str) -> dict[str, pd.DataFrame]:
    """Title -> mean over seeds, draws and sites per size (params) and duration.

    Pretrained runs alone; a panel per task, metric, number of shots and series (objective, family
    and share of the data). The metric's name is written out, so that the error "mae" is not taken
    for the objective. A metric that does not exist (NaN) for a draw is left out of its mean.
    """
    rows = results[
        (results["arm"] == "pretrained")
        & (results["protocol"] == protocol)
        & (results["domain"] == domain)
    ]
    rows = rows.assign(series=series_of(rows))
    panels = {}
    for (task, metric, shots, series), group in rows.groupby(["task", "metric", "shots", "series"]):
        means = group.groupby(["duration", "params"], as_index=False)["value"].mean().dropna()
        if len(means):
            title = f"{task}: {label_of(str(metric))}, {shots} shots, pretrained by {series}"
            panels[title] = pd.DataFrame(means)
    return panels
