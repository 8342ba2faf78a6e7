"""What maps volumes to tokens and tokens to outputs. One device's view: no mesh, no collective.

Dimension letters used everywhere: B batch, V views of a case, BV views of a whole batch, D H W
voxels, C channels, N tokens, M visible tokens, E embedding width, P voxels of a patch, S sequences
of a session, R few-shot draws, K outputs of a head, or channels of an attention head.
"""
