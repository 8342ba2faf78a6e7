"""What a network costs before it runs: FLOPs, memory, hours, and the mesh that fits.

Imports no jax.
"""
