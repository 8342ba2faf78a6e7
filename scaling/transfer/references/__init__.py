"""Competitors, one file a kind: features, predictions, functions and weights from elsewhere."""
