"""The published challenges: a table each, which `scaling.study.challenge` reads."""

from pathlib import Path

FOLDER = Path(__file__).parent


def built_in_challenges() -> list[str]:
    """Names of the published challenges that come with the package."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


# Submission containers have the package's modules without these tables.
DEFAULT = next(iter(built_in_challenges()), "")
"""The challenge of a config that names none: the first that was published."""

CHOICES = f"{', '.join(built_in_challenges())}, or a .toml or .py"
"""What a challenge may be called, in words for the command line."""
