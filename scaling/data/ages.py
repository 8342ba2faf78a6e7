"""Ages as tables write them -> years."""

import re

import pandas as pd

YEARS = {"": 1.0, "y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}
POSSIBLE = (0.0, 120.0)  # years; codes for a missing age, such as -999 and 999, lie outside
NUMBER = r"(\d+(?:[.,]\d*)?|[.,]\d+)"
UNIT = (
    r"\s*(?:(y)(?:ears?|rs?|\.?\s?/?o\.?)?|(m)(?:onths?|onth|ths?|os?|on)?|(w)(?:eeks?|ks?)?"
    r"|(d)(?:ays?)?)?\.?"
)
EXACT = re.compile(rf"([-+]?){NUMBER}{UNIT}(?: old| of age)?", re.IGNORECASE)
SCIENTIFIC = re.compile(r"\d+(\.\d*)?e[-+]?\d+", re.IGNORECASE)  # 2.5E+01, of a spreadsheet
# 1y6m, "1 year 6 months", and P1Y6M of ISO 8601.
COMPOUND = re.compile(rf"P?{NUMBER}{UNIT}(?:,?\s*(?:and )?{NUMBER}{UNIT})?", re.IGNORECASE)
# Privacy rules censor high ages: 89+, >89, >=90, 90plus, 90 or older, over 89.
LIMIT = (
    r"(?:[<>≥≤=]{1,2}|over|above|under|below|(?:more|older|less|younger) than|at (?:least|most))"
)
BEYOND = r"(?:\+|plus|(?:or|and) (?:older|more|above|over|up|younger|less|below|under))"
CENSORED = re.compile(
    rf"(?:{LIMIT}\s*{NUMBER}{UNIT}|{NUMBER}{UNIT}\s*{BEYOND})(?: old)?", re.IGNORECASE
)
RANGE = re.compile(
    rf"[\[(]?{NUMBER}{UNIT}\s*(?:-|–|—|_|~|,\s|to|and)\s*{NUMBER}{UNIT}[\])]?(?: old)?",
    re.IGNORECASE,
)
# Columns that hold the age at a scan where there is no `age`, by their letters and digits alone,
# and their unit. Ages at a first visit are not those of later ones, and are not read.
OF_AGE = re.compile(
    r"(?:participant|patient|subject|scan|mri|visit|session)?age"
    r"(?:(?:in|at|of)?(?:the)?(?:scan|mri|visit|session|exam|examination|acquisition|imaging)"
    r"(?:date|time)?)?"
    r"(?:in)?(?:(y|yr|yrs|years?)|(m|mo|mos|months?)|(w|wk|wks|weeks?)|(d|days?))?"
)
IN_MONTHS = ("interview_age",)  # of the NIMH Data Archive


def parse_age(text: str) -> float:
    """Years in "46.7", "46,7", "046Y", "018M", "5W", "1y6m", "89+" (89) or "45-50" (47.5); else
    NaN.
    """
    text = " ".join(text.split())
    exact = EXACT.fullmatch(text)
    if exact:
        years = in_years(exact[2], exact.groups()[2:])
        return -years if exact[1] == "-" else years
    if SCIENTIFIC.fullmatch(text):
        return float(text)
    compound = COMPOUND.fullmatch(text)
    if compound and any(compound.groups()[1:5]):
        groups = compound.groups()
        rest = in_years(groups[5], groups[6:]) if groups[5] and any(groups[6:]) else 0.0
        if groups[5] is None or any(groups[6:]):
            return in_years(str(groups[0]), groups[1:5]) + rest
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
        if column in IN_MONTHS:
            return column, "m"
        match = OF_AGE.fullmatch(re.sub(r"[^a-z0-9]", "", column.lower()))
        if match:
            units = zip("ymwd", match.groups(), strict=True)
            return column, next((unit for unit, text in units if text), "y")
    return None


def unread_age_columns(columns: list[str]) -> list[str]:
    """Columns whose names speak of an age that is not read, where no column is."""
    if age_column(columns):
        return []
    return [column for column in columns if re.search(r"(^|[^a-z])ages?([^a-z]|$)", column)]


def with_unit(text: str, unit: str) -> str:
    """An age of a column whose name says the unit."""
    return f"{text}{unit}" if unit in ("m", "w", "d") and EXACT.fullmatch(f"{text}{unit}") else text


def unit_of(text: str) -> str:
    """The unit that a column beside the ages gives, "months", "M" or "mo": y, m, w or d; "" for
    none that is known.
    """
    match = re.fullmatch(UNIT, text.strip(), re.IGNORECASE)
    return next((unit.lower() for unit in match.groups() if unit), "") if match else ""


def odd_ages(texts: list[str]) -> list[str]:
    """Sentences on ages that are no single number: how many were read as what, and which were
    not.
    """
    censored = [text for text in texts if CENSORED.fullmatch(text.strip())]
    ranges = [text for text in texts if RANGE.fullmatch(text.strip())]
    unread = [text for text in texts if parse_age(text) != parse_age(text)]
    ages = [(text, parse_age(text)) for text in texts]
    impossible = [text for text, age in ages if age < POSSIBLE[0] or age > POSSIBLE[1]]
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
    if impossible:
        sentences.append(
            f"{len(impossible)} ages are impossible and left out, first {impossible[0]!r}; "
            f"expected {POSSIBLE[0]:g} to {POSSIBLE[1]:g} years"
        )
    return sentences


def possible(ages: "pd.Series[float]") -> "pd.Series[float]":
    """Ages, NaN for those that no person has."""
    return ages.where(ages.between(*POSSIBLE))
