"""The synthetic cohort: anatomy, findings and scanners, in the layout of a challenge. Imports no
jax."""
