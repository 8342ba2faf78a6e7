"""How an objective is optimised on many devices: mesh, optimiser, loop, checkpoints, tracking."""
