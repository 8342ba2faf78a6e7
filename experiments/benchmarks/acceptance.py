"""What a device does with everything that wants one: the figures that no CPU can tell.

Shows:    step times and utilisation of every rung beside what the plan and the roofline say,
          scanned and unrolled, channels first and last; fine-tuning as one program; the same
          networks in PyTorch; waiting for input, saving, kill and resume; and the first minutes of
          a study beside the plan's hours. `acceptance_cases.py` lists them, most telling first.
Command:  python experiments/benchmarks/acceptance.py [FOLDER=acceptance] [--minutes 8]
              the cases that FOLDER has no figures of, as many as fit into the minutes; the same
              command goes on with the rest: about 25 minutes in all on one GPU
          python experiments/benchmarks/acceptance.py [FOLDER] --only NAME [NAME ...]
              these cases, again
          --reduced: the same on the smallest networks, to try the script on a CPU
Ends in:  FOLDER/acceptance.json and FOLDER/acceptance.md, written anew after each case
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from acceptance_cases import Case, cases

from scaling.files import read_json, write_json, write_text

JSON, TABLE = "acceptance.json", "acceptance.md"
SHORTEST = 0.5  # minutes that are worth beginning a case with

Record = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; 0 when no case is left."""
    parser = argparse.ArgumentParser(description="Figures of the device at hand.")
    parser.add_argument("folder", nargs="?", default="acceptance", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[])
    parser.add_argument("--reduced", action="store_true")
    parser.add_argument("--case", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    listed = {case.name: case for case in cases(options.reduced)}
    unknown = [name for name in options.only if name not in listed]
    if unknown:
        parser.error(f"no case {unknown[0]!r}; expected one of {', '.join(listed)}")
    if options.case:
        print(json.dumps(figures(listed[options.case])))
        return 0
    chosen = [listed[name] for name in options.only] or list(listed.values())
    left = run_cases(options.folder, chosen, options.minutes, options.reduced, bool(options.only))
    if left:
        print(f"{left} of {len(chosen)} cases are left; the same command goes on with them")
    return int(left > 0)


def figures(case: Case) -> Record:
    """The figures of a case, measured in this process."""
    import acceptance_input

    if case.measure == "crops_a_second":
        return acceptance_input.crops_a_second(**case.arguments)
    import acceptance_runs
    import acceptance_steps

    module = acceptance_steps if hasattr(acceptance_steps, case.measure) else acceptance_runs
    return getattr(module, case.measure)(**case.arguments)


def run_cases(folder: Path, chosen: list[Case], minutes: float, reduced: bool, again: bool) -> int:
    """Run the cases that have no figures yet, or all of them `again`, until the minutes are spent.
    Returns how many are left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * minutes
    record = read_json(folder / JSON) if (folder / JSON).exists() else {}
    waiting = [case for case in chosen if again or case.name not in record]
    for number, case in enumerate(waiting):
        minutes_left = (deadline - time.monotonic()) / 60
        if minutes_left < min(case.minutes, SHORTEST):
            return len(waiting) - number
        limit = min(case.minutes, minutes_left)
        print(f"[{number + 1}/{len(waiting)}] {case.name}", flush=True)
        result = run_apart(case, folder, limit, reduced)
        if result is None and limit < case.minutes and case.minutes <= minutes:
            return len(waiting) - number  # it has its whole time at the start of the next call
        if result is None:
            result = {"error": f"stopped after {limit:.1f} minutes"}
        record[case.name] = {"stage": case.stage, **result}
        print("    " + in_words(result), flush=True)
        write_json(folder / JSON, record)
        write_text(folder / TABLE, as_tables(record))
    return 0


def run_apart(case: Case, folder: Path, limit: float, reduced: bool) -> Record | None:
    """The figures of a case from a process of its own, or why there are none; None where it took
    more than `limit` minutes.
    """
    command = [sys.executable, __file__, str(folder), "--case", case.name]
    command += ["--reduced"] * reduced
    flags = " ".join([os.environ.get("XLA_FLAGS", ""), case.flags]).strip()
    process = subprocess.Popen(
        command,
        env={**os.environ, "XLA_FLAGS": flags, "WANDB_MODE": "disabled"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, errors = process.communicate(timeout=60 * limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with all processes that it started
        process.communicate()
        return None
    if process.returncode == 0:
        return json.loads(out.splitlines()[-1])
    lines = errors.strip().splitlines() or [f"exit code {process.returncode}"]
    return {"error": lines[-1][:300]}


def in_words(result: Record) -> str:
    """The figures of a case on one line."""
    return ", ".join(f"{name} {cell(value)}" for name, value in result.items())


def as_tables(record: Record) -> str:
    """All figures as tables of Markdown, one a stage."""
    stages: dict[str, list[str]] = {}
    for name, result in record.items():
        stages.setdefault(result["stage"], []).append(name)
    text = []
    for stage, names in stages.items():
        columns: dict[str, None] = {}
        for name in names:
            columns |= dict.fromkeys(record[name])
        del columns["stage"]
        text += [f"## {stage}", "", f"| case | {' | '.join(columns)} |"]
        text.append("|---" * (1 + len(columns)) + "|")
        for name in names:
            cells = [cell(record[name].get(column, "")) for column in columns]
            text.append(f"| {name} | {' | '.join(cells)} |")
        text.append("")
    return "\n".join(text)


def cell(value: object) -> str:
    """A value of a table: numbers with three digits."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value).replace("|", "/").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
