"""What objectives that pair the sequences of a session leave out is said."""

import pandas as pd
import pytest

from scaling.data.pairing import describe_pairs, left_out_of_pairs
from scaling.study.config import Source
from scaling.study.objectives import Contrastive, CrossSequence, Mae

SCANS = pd.DataFrame(
    [
        ("mine", "sub-1", "ses-1", "t1"),
        ("mine", "sub-1", "ses-1", "flair"),
        ("mine", "sub-1", "ses-2", "t1"),
        ("mine", "sub-2", "ses-1", "t1"),
        ("mine", "sub-2", "ses-1", "t1"),
        ("mine", "sub-3", "ses-1", "scan_1"),
        ("mine", "sub-3", "ses-1", "scan_2"),
        ("others", "sub-4", "ses-1", "t1"),
    ],
    columns=["source", "subject", "session", "sequence"],
).assign(part="")


def test_scans_alone_and_of_unknown_sequence_are_counted() -> None:
    text = describe_pairs(SCANS)
    assert text.startswith("4 of 8 scans (50%) have no other sequence in their session")
    assert "of 2 (25%) no sequence is known" in text
    assert "known" not in describe_pairs(SCANS[:5])


@pytest.mark.parametrize(
    ("objective", "said"),
    [(Mae(), False), (Contrastive(), False), (Contrastive(positives="sequences"), True)],
)
def test_objective_that_pairs_sequences_says_what_of_pretraining_it_leaves_out(
    objective: Mae | Contrastive, said: bool
) -> None:
    sentences = left_out_of_pairs(SCANS, [Source("mine")], [objective])
    assert len(sentences) == said
    if said:
        assert f"objective {objective.label!r}" in sentences[0]
        assert "3 of 7 scans (43%)" in sentences[0]


def test_every_objective_that_pairs_sequences_is_named() -> None:
    objectives = [CrossSequence(), Mae(), Contrastive(positives="sequences")]
    assert len(left_out_of_pairs(SCANS, [Source("mine"), Source("others")], objectives)) == 2
