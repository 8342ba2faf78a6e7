"""From NIfTI folders to checked, normalised batches. Imports no jax.

layout      folders, or a table of scans -> a table with one row per scan (files, participants,
            sidecars)
check       headers of a collection -> a manifest and findings (headers, problems, summary)
track       a manifest of its collection proves the method track of a challenge
prepare     table -> a cache: stacked float16 volumes on one grid, and an index (identity,
            ingest, reading, head, volume)
cache       open it (shards, compressed)
twins       near-equal scans of two names (signatures)
tasks       cache -> labelled arrays of a task and its few-shot draws
pipeline    cache -> endless batches of crops (grain)
"""
