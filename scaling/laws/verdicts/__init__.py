"""Verdicts from cases: contrasts with an error bar, rankings, designs."""
