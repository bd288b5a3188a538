"""The training loop and the study that runs it."""
