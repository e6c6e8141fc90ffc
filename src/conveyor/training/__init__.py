"""Training: settings, the folder of a run, the loop, checkpoints, several processes, progress."""
