"""The synthetic cohort: anatomy, lesions and scanners, written in the layouts of FOMO60K and FOMO25. Imports no jax."""
