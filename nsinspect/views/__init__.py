"""Models as people and programs read them: each view turns a model into text and does nothing else."""
