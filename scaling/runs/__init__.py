"""The plan of a study, and the folders of its runs."""
