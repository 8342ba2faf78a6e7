"""How an objective is optimised on many devices: mesh, batches on the devices, optimiser, loop,
checkpoints.
"""
