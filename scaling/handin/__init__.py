"""What leaves a study: submission containers, embeddings of scans, scores of predictions."""
