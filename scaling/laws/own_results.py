"""The results.csv of a study as the table that the verbs on anybody's tables read.

A study's own table has a row per run, protocol, number of shots, draw, site and metric, of
pretrained runs and controls alike. To fit, judge or rank, one protocol, one kind of test site and
one number of shots must be chosen; what was chosen is said in a sentence.
"""

import pandas as pd

from scaling.laws.series import series_of

COLUMNS = {
    *("run", "arm", "params", "duration", "trunk", "task", "protocol", "shots", "draw"),
    *("site", "domain", "metric", "value"),
}
PROTOCOLS = ("probe", "finetune")  # the first that a table has is taken


def is_study_results(table: pd.DataFrame) -> bool:
    """Whether a table is the results.csv or .parquet of a study."""
    return set(table) >= COLUMNS


def chosen_rows(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of one protocol, one kind of test site and the most shots, and a sentence that names
    them.

    Controls keep their own protocol where they have not this one.
    """
    pretrained = table[table["arm"] == "pretrained"]
    tried = pretrained["protocol"].unique().tolist()
    protocol = next((name for name in PROTOCOLS if name in tried), tried[0] if tried else "")
    domain = "out" if (pretrained["domain"] == "out").any() else "in"
    rows = table[table["domain"] == domain]
    own = (rows["arm"] == "pretrained") | rows["protocol"].isin(pretrained["protocol"])
    rows = rows[~own | (rows["protocol"] == protocol)]
    most = rows.groupby("task")["shots"].transform("max")
    of_pretrained = rows["arm"] == "pretrained"
    rows = rows[~of_pretrained | (rows["shots"] == most)]
    where = "out-of-domain" if domain == "out" else "in-domain"
    sentence = (
        f"Results of a study: by {protocol}, at {where} test sites, with the most labelled cases. "
        "For anything else, filter the table first."
    )
    return rows, sentence


def scores_table(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The pretrained runs with the columns that fits and verdicts read, and what was chosen.

    Columns: size (parameters), duration, run, cluster (its trunk), draw, case (a site), task,
    metric, value, series.
    """
    rows, sentence = chosen_rows(table)
    rows = rows[rows["arm"] == "pretrained"]
    scores = pd.DataFrame(
        {
            "size": rows["params"],
            "duration": rows["duration"],
            "run": rows["run"],
            "cluster": rows["trunk"],
            "draw": rows["draw"],
            "case": rows["site"],
            "task": rows["task"],
            "metric": rows["metric"],
            "value": rows["value"],
            "series": series_of(rows),
        }
    )
    return scores, f"{sentence} A site counts as a case: predictions.parquet has the cases."


def models_table(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """A row per model (run or control) and a column TASK_METRIC per score, and a sentence on the
    protocol, test sites and shots that were chosen.
    """
    rows, sentence = chosen_rows(table)
    labels = rows["run"].where(rows["arm"] == "pretrained", rows["arm"] + ": " + rows["run"])
    columns = rows["task"].astype(str) + "_" + rows["metric"].astype(str)
    scores = rows.assign(model=labels, column=columns)
    wide = scores.pivot_table("value", "model", "column").reset_index()
    return wide.rename_axis(columns=None), sentence
