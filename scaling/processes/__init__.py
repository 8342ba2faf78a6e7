"""The processes of a run: how they find each other and end together, their pool of workers, their
allocator.
"""
