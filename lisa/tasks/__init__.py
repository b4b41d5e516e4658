"""One file per task: its metric, its baselines, and how the model is asked."""
