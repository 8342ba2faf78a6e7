"""What leaves a study: a submission container, embeddings of any scans, scores of anybody's predictions."""
