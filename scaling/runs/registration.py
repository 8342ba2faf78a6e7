"""A design that is fixed before any test case is read, and what was changed since."""

import dataclasses
import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

from scaling.files import read_json, write_json
from scaling.runs.drift import differences
from scaling.runs.plan import Plan
from scaling.runs.steps import TransferStep
from scaling.study.config import Study

REGISTRATION = "registration.json"

# Fields that say where and how a study runs, not what it asks.
NOT_DESIGN = ("name", "execution")


def design_of(study: Study) -> dict[str, Any]:
    """What a study asks and of what, as plain JSON values: everything that could move a verdict."""
    values = json.loads(json.dumps(dataclasses.asdict(study)))
    return {field: value for field, value in values.items() if field not in NOT_DESIGN}


def design_digest(study: Study) -> str:
    """A short name of a design: equal for equal designs, whatever the study is called."""
    text = json.dumps(design_of(study), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def register(study_dir: Path, plan: Plan) -> str:
    """Write the design and its digest into the study's folder. Returns what was registered, in
    words.

    Raises ValueError when a transfer has begun (test cases may have been read), and when another
    design is registered already.
    """
    study = plan.study
    file = study_dir / REGISTRATION
    if file.exists():
        changed = differences(read_json(file)["design"], design_of(study))
        if changed:
            raise ValueError(
                f"{file} registers another design: {'; '.join(changed)}; run the registered one, "
                "or register the new one under another name (--set name=...)"
            )
        return registered_in_words(study_dir, study)
    begun = [step.name for step in plan.steps if has_read_tests(study_dir, step.name, step.config)]
    if begun:
        raise ValueError(
            f"{study_dir} cannot be registered any more: {len(begun)} steps have read test cases, "
            f"first {begun[0]}; a registration comes before them (choose another name and new "
            "test cases)"
        )
    entry = {
        "registered": now(),
        "digest": design_digest(study),
        "design": design_of(study),
    }
    write_json(file, entry)
    return registered_in_words(study_dir, study)


def has_read_tests(study_dir: Path, name: str, config: object) -> bool:
    """Whether a step evaluates on test cases and has begun."""
    return isinstance(config, TransferStep) and (study_dir / name / "config.json").exists()


def registered_in_words(study_dir: Path, study: Study) -> str:
    """Whether the design was registered, when, and what was changed since."""
    file = study_dir / REGISTRATION
    if not file.exists():
        return "The design was not registered before the test cases were read."
    entry = read_json(file)
    changed = differences(entry["design"], design_of(study))
    since = "unchanged since" if not changed else f"CHANGED since: {'; '.join(changed)}"
    return f"Design {entry['digest']} was registered on {entry['registered']}, {since}."


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
