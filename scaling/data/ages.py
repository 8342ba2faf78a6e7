"""Ages as tables write them -> years."""

import re

YEARS = {"": 1.0, "y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}
NUMBER = r"(\d+(?:[.,]\d+)?)"
UNIT = r"\s*(?:(y)(?:ears?|rs?)?|(m)(?:onths?|o)?|(w)(?:eeks?|k)?|(d)(?:ays?)?)?\.?"
EXACT = re.compile(rf"(-?){NUMBER}{UNIT}(?: old)?", re.IGNORECASE)
# Privacy rules censor high ages: 89+, >89, >=90, 90plus, 90 or older.
CENSORED = re.compile(
    rf"(?:[<>≥≤]=?\s*{NUMBER}{UNIT}|{NUMBER}{UNIT}\s*(?:\+|plus|or (?:older|more|above)))",
    re.IGNORECASE,
)
RANGE = re.compile(rf"{NUMBER}{UNIT}\s*(?:-|–|to)\s*{NUMBER}{UNIT}", re.IGNORECASE)
# Columns that hold an age where there is no `age`, and the unit of their numbers.
COLUMNS = {
    "age_years": "y",
    "age_in_years": "y",
    "age (years)": "y",
    "age_at_scan": "y",
    "age_at_visit": "y",
    "age_at_session": "y",
    "age_at_mri": "y",
    "scan_age": "y",
    "age_months": "m",
    "age_in_months": "m",
    "age_weeks": "w",
    "age_days": "d",
}


def parse_age(text: str) -> float:
    """Years in "46.7", "46,7", "046Y", "018M", "5W", "89+" (89) or "45-50" (47.5); else NaN."""
    text = text.strip()
    exact = EXACT.fullmatch(text)
    if exact:
        years = in_years(exact[2], exact.groups()[2:])
        return -years if exact[1] else years
    censored = CENSORED.fullmatch(text)
    if censored:
        groups = censored.groups()
        first = groups[:5] if groups[0] else groups[5:]
        return in_years(str(first[0]), first[1:])
    between = RANGE.fullmatch(text)
    if between:
        groups = between.groups()
        low, high = groups[:5], groups[5:]
        # "45-50Y": the unit behind the second number is that of both.
        units = low[1:] if any(low[1:]) else high[1:]
        return (in_years(str(low[0]), units) + in_years(str(high[0]), high[1:])) / 2
    return float("nan")


def in_years(number: str, units: tuple[str | None, ...]) -> float:
    """A number with one of the units y, m, w, d (none: years) in years."""
    unit = next((unit for unit in units if unit), "")
    return float(number.replace(",", ".")) * YEARS[unit.lower()]


def age_column(columns: list[str]) -> tuple[str, str] | None:
    """The column that holds ages and its unit, `age` before all others; None without one."""
    if "age" in columns:
        return "age", ""
    for column in columns:
        if column in COLUMNS:
            return column, COLUMNS[column]
    return None


def with_unit(text: str, unit: str) -> str:
    """An age of a column whose name says the unit."""
    return f"{text}{unit}" if unit in ("m", "w", "d") and EXACT.fullmatch(f"{text}{unit}") else text


def odd_ages(texts: list[str]) -> list[str]:
    """Sentences on ages that are no single number: how many were read as what, and which were
    not.
    """
    censored = [text for text in texts if CENSORED.fullmatch(text.strip())]
    ranges = [text for text in texts if RANGE.fullmatch(text.strip())]
    unread = [text for text in texts if parse_age(text) != parse_age(text)]
    sentences = []
    if censored:
        sentences.append(
            f"{len(censored)} ages such as {censored[0]!r} are limits; "
            f"they are read as {parse_age(censored[0]):g}"
        )
    if ranges:
        sentences.append(
            f"{len(ranges)} ages such as {ranges[0]!r} are ranges; their middle "
            f"({parse_age(ranges[0]):g}) is taken"
        )
    if unread:
        sentences.append(f"{len(unread)} ages cannot be read, first {unread[0]!r}")
    return sentences
