"""Which rows of the predictions a verdict and the findings rest on."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from scaling.engines.evidence import findings, judge, scored
from scaling.runs.experiment import load_study
from scaling.transfer.collect import described

STUDY = load_study(Path(__file__).parents[1] / "micro_study.py")
AGE = STUDY.tasks[2]


def rows(arm: str, run: str, protocol: str, shots: int, value: float) -> pd.DataFrame:
    """A run's predictions of three people at a foreign site and one at the finetuning site, after
    two draws, in the collected columns.
    """
    table = pd.DataFrame(
        [
            {
                "protocol": protocol,
                "shots": shots,
                "draw": draw,
                "rate": 0.0,
                "case": str(case),
                "site": site,
                "domain": domain,
            }
            | {"label": 50.0 + case, "prediction": 50.0 + case + value + draw, "mae": value + draw}
            for draw in range(2)
            for case, site, domain in (
                (0, "far", "out"),
                (1, "far", "out"),
                (2, "far", "out"),
                (0, "near", "in"),
            )
        ]
    )
    facts = {
        "run": run,
        "arm": arm,
        "objective": "mae" if arm == "pretrained" else "none",
        "size": "xxs",
        "params": 1000,
        "duration": 160,
    }
    return described([table], [{**facts, "seed": 0, "trunk": run, "task": AGE.name}])


PREDICTIONS = pd.concat(
    [
        *(
            rows("pretrained", "mae-xxs-seed0-160", protocol, 4, 5.0)
            for protocol in ("finetune", "finetune, 0 trials", "probe", "neighbours")
        ),
        *(
            rows("scratch", "scratch-xxs-seed0", protocol, 4, 8.0)
            for protocol in ("finetune", "finetune, 0 trials", "probe", "neighbours")
        ),
        rows("scratch", "scratch-xxs-seed0", "supervised out of domain", 6, 7.0),
        rows("scratch", "scratch-xxs-seed0", "supervised in domain", 9, 4.0),
        rows("classical", "classical", "ridge", 4, 6.0),
    ],
    ignore_index=True,
)


def test_protocol_is_compared_with_untrained_encoders_under_the_same_one() -> None:
    for protocol, untrained in (("finetune", "scratch"), ("probe", "random")):
        cases = scored(PREDICTIONS, STUDY, AGE, "mae", protocol)
        assert set(cases["arm"]) == {
            "pretrained",
            untrained,
            "supervised out of domain",
            "supervised in domain",
            "classical",
        }
        assert set(cases["domain"]) == {"out"}
        assert not cases.duplicated(["run", "draw", "case"]).any()
    inside = scored(
        PREDICTIONS,
        replace(STUDY, estimand=replace(STUDY.estimand, domain="in")),
        AGE,
        "mae",
        "probe",
    )
    assert set(inside["site"]) == {"near"}


def test_findings_are_asked_under_each_protocol_the_estimands_first() -> None:
    study = load_study(Path(__file__).parents[1] / "micro_study.py", ["estimand.protocol=probe"])
    found = findings(PREDICTIONS, replace(study, tasks=(AGE,)))
    assert list(found) == ["probe", "finetune"]
    differences = {
        one.comparison.arm_b: one.comparison.effect.estimate for one in found["probe"].against
    }
    # Errors of 5.5 on average against 8.5, 7.5, 4.5 and 6.5, as shares of the control's.
    expected = {
        "random": 3 / 8.5,
        "supervised out of domain": 2 / 7.5,
        "supervised in domain": -1 / 4.5,
        "classical": 1 / 6.5,
    }
    assert differences.keys() == expected.keys()
    assert all(abs(differences[arm] - expected[arm]) < 1e-12 for arm in expected)


def test_pretrained_runs_meet_untrained_encoders_of_their_own_network() -> None:
    other = [
        rows("pretrained", "mae-unet-160", "probe", 4, 1.0),
        rows("scratch", "scratch-unet", "probe", 4, 3.0),
        rows("scratch", "scratch-another", "probe", 4, 100.0),
    ]
    tables = [
        table.assign(size=size)
        for table, size in zip(other, ("unet-xxs", "unet-xxs", "resenc-xxs"), strict=True)
    ]
    found = findings(pd.concat([PREDICTIONS, *tables]), replace(STUDY, tasks=(AGE,)))[
        "probe"
    ].against
    (random,) = [one.comparison for one in found if one.comparison.arm_b == "random"]
    assert (random.mean_a, random.mean_b) == ((5.5 + 1.5) / 2, (8.5 + 3.5) / 2)


def test_study_of_one_size_and_duration_asks_for_no_verdict() -> None:
    assert judge(
        PREDICTIONS, replace(STUDY, sizes=STUDY.sizes[:1], durations=STUDY.durations[:1])
    ) == ([], {}, [])
    assert len(judge(PREDICTIONS, replace(STUDY, tasks=(AGE,), sizes=("xxs", "xs")))[2]) == 1
