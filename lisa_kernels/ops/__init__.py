"""One folder for each op."""
