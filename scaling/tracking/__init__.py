"""What a run says of itself: metrics.jsonl, Weights & Biases and its sync; runs of others,
imported.
"""
