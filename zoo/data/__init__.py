"""Images in: sources (where they come from) and subsets (what the models are trained on)."""
