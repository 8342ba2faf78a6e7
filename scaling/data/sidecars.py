"""What a JSON file beside a table says of its columns, as BIDS has it: the unit of an age.

participants.json: {"age": {"Description": "age at the scan", "Units": "months"}}
"""

import json
from pathlib import Path

import pandas as pd

from scaling.data.ages import age_column, unit_of

UNIT_OF_AGE = "age_unit"  # the column that gives it for every row


def with_stated_unit(file: Path, table: pd.DataFrame, remarks: list[str]) -> pd.DataFrame:
    """The table with the column `age_unit`, where the JSON file beside it gives the unit of its
    ages and no column does; a remark where that cannot be read.
    """
    sidecar = file.with_suffix(".json")
    column = age_column(list(table.columns))
    if column is None or UNIT_OF_AGE in table.columns or not sidecar.is_file():
        return table
    try:
        described = json.loads(sidecar.read_bytes())
        columns = {str(name).strip().lower(): about for name, about in described.items()}
    except (ValueError, OSError, AttributeError) as error:
        remarks.append(f"{sidecar} is not used: it is no JSON object of columns ({error})")
        return table
    about = columns.get(column[0])
    unit = about.get("Units", about.get("units")) if isinstance(about, dict) else None
    if unit is None or not str(unit).strip():
        return table
    if not unit_of(str(unit)):
        remarks.append(
            f"{sidecar} gives the unit {unit!r} of {column[0]}, which is not known; expected "
            "years, months, weeks or days; the ages are taken for years"
        )
        return table
    return table.assign(**{UNIT_OF_AGE: str(unit)})
