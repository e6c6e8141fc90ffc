"""Training: settings, run folder, training loop, checkpoints, data parallelism, progress."""
