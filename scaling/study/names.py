"""What may name a folder: studies, tasks, objectives, families, groups and challenges."""

import re

# No separators, so that nothing is written outside of a study's folder; no leading "." (hidden, or
# the folder above) or "-" (an option of a command); short enough for every file system, together
# with what is added to it.
NAME = re.compile(r"(?![.-])[\w.-]{1,100}")


def name_problem(field: str, name: str) -> str:
    """Why `name` cannot name a folder, in one sentence; "" when it can."""
    if NAME.fullmatch(name):
        return ""
    return (
        f"{field} is named {name!r}; expected at most 100 letters, digits, '.', '_' and '-', the "
        "first neither '.' nor '-' (it names a folder)"
    )
