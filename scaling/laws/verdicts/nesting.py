"""Cases are nested in patients, patients in sites: what that changes about per-case scores."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from scaling.laws.arrays import FloatArray, IntArray
from scaling.laws.columns import require_columns
from scaling.laws.verdicts.case_values import FROM_PREDICTIONS

Labels = npt.NDArray[np.object_]


def name_cases_by_site(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its cases named by site and case, as sites may number theirs alike.

    A column `site` or `patient` that is blank throughout says nothing and is dropped. Raises
    ValueError where it is blank in some rows only."""
    for column in ("site", "patient"):
        if column not in table:
            continue
        entries = table[column]
        blank = entries.isna() | (entries.astype(str).str.strip() == "")
        if blank.all():
            table = table.drop(columns=column)
        elif blank.any():
            raise ValueError(
                f"Column {column} is blank in {int(blank.sum())} of {len(table)} rows (first at "
                f"row {table.index[blank][0]}): name the {column} of every case, or drop the "
                "column."
            )
        else:
            table = table.assign(**{column: entries.astype(str)})
    if "site" in table:
        case = table["case"].astype(str) if "case" in table else ""
        table = table.assign(case=table["site"] + "/" + case)
    return table


def label_of_cases(table: pd.DataFrame, cases: list[object], column: str) -> Labels | None:
    """The entry of `column` of every case [J]; None without that column.

    Raises ValueError where one case has several."""
    if column not in table:
        return None
    pairs = table[["case", column]].drop_duplicates()
    if pairs["case"].duplicated().any():
        case = pairs.loc[pairs["case"].duplicated(), "case"].iloc[0]
        raise ValueError(
            f"Column {column} changes within case {case}: every case has one {column}; name "
            "cases that differ apart."
        )
    return pairs.set_index("case")[column].reindex(cases).to_numpy(object)


def values_within_sites(
    metric: str, label: FloatArray, prediction: FloatArray, site: Labels
) -> tuple[FloatArray, IntArray, Labels, npt.NDArray[np.bool_], list[str]]:
    """Per-case values of a metric of labels [J] and predictions [R, K, J] within each site.

    Also the strata and sites of the cases that count, which cases of the table those are, and
    notes that name the sites which cannot be scored on their own."""
    values = np.zeros(prediction.shape)
    scored = np.zeros(len(label), bool)
    left_out = []
    for name in np.unique(site):
        inside = site == name
        if len(np.unique(label[inside])) < 2 or inside.sum() < 3:
            left_out.append(f"{name} ({int(inside.sum())} cases)")
            continue
        scored |= inside
        of_metric = FROM_PREDICTIONS[metric]
        for run, draw in np.ndindex(prediction.shape[:2]):
            values[run, draw, inside] = of_metric(label[inside], prediction[run, draw, inside])
    notes = [f"{metric} is computed within each site, then averaged over cases."]
    if left_out:
        notes.append(
            f"Left out, for their cases have one label or are fewer than three: "
            f"{', '.join(left_out)}."
        )
    strata = site[scored]
    if metric == "auroc":
        strata = np.array([f"{s}/{x}" for s, x in zip(site, label, strict=True)])[scored]
    return values[..., scored], numbered(strata), site[scored], scored, notes


def no_site_holds_both(label: FloatArray, site: Labels) -> bool:
    """Whether no site has enough cases of different labels to be scored on its own."""
    for name in np.unique(site):
        inside = site == name
        if len(np.unique(label[inside])) > 1 and inside.sum() >= 3:
            return False
    return True


def numbered(labels: Labels) -> IntArray:
    """Numbers of labels [J], equal where the labels are."""
    return np.asarray(np.unique(labels, return_inverse=True)[1].ravel(), np.int64)


def by_patient(
    values: FloatArray, patient: Labels, site: Labels | None
) -> tuple[FloatArray, Labels | None]:
    """Scores [R, K, patients] of patients instead of cases [R, K, J], and the patients' sites.

    The mean over the patients of a site is still the mean over its cases; a patient's deviation
    from it is the sum of those of the patient's cases (linearisation of a ratio; Cochran 1977,
    Sampling Techniques, chapter 6)."""
    place = np.full(len(patient), "", object) if site is None else site
    parts, sites = [], []
    for name in np.unique(place):
        inside = place == name
        inner = values[..., inside]
        group = numbered(patient[inside])
        member = (group[:, None] == np.arange(group.max() + 1)).astype(float)  # [J, patients]
        mean = inner.mean(-1, keepdims=True)
        scale = member.shape[1] / inside.sum()
        parts.append(mean + scale * ((inner - mean) @ member))
        sites.append(np.full(member.shape[1], name, object))
    if site is None:
        return parts[0], None
    return np.concatenate(parts, axis=-1), np.concatenate(sites)


def with_site_shares(values: FloatArray, site: Labels, share: dict[str, float]) -> FloatArray:
    """Values [R, K, J] whose mean over cases is sum_s share_s x the mean of site s, with the
    deviations from site means scaled so that a variance within sites is that of this mean."""
    sites = np.unique(site)
    means = np.stack([values[..., site == s].mean(-1) for s in sites])  # [S, R, K]
    total = np.einsum("s,srk->rk", np.array([share[str(s)] for s in sites]), means)
    result = np.empty(values.shape)
    for s, mean in zip(sites, means, strict=True):
        inside = site == s
        scale = share[str(s)] * len(site) / inside.sum()
        result[..., inside] = total[..., None] + scale * (values[..., inside] - mean[..., None])
    return result


def check_columns(table: pd.DataFrame) -> None:
    """Raise ValueError where patients are named but no cases that could be theirs."""
    if "patient" in table:
        require_columns(table, ["case"], "patients have cases; name the scans of each")
