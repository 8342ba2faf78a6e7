"""What all config classes share: unknown fields are errors, field docstrings are descriptions."""

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)
