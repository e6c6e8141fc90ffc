"""Training a model: its settings, its folder, its loop, and what keeps it from being lost."""
