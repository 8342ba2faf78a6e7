"""From NIfTI folders to checked, normalised batches. Imports no jax.

phantom   writes a synthetic cohort in the FOMO60K and FOMO25 layouts      anatomy, ageing, lesions, scanner
check     looks at the headers of a collection                             layout, reading
layout    folders -> a table with one row per scan
cache     table -> stacked float16 volumes on one grid + index             reading, volume
tasks     cache -> labelled arrays of a task and its few-shot draws
pipeline  cache -> endless batches of crops (grain)
"""
