"""Curves of performance against size and duration: forms, fits, uncertainty, extrapolation."""
