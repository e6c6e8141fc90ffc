"""Data to learn from. Nothing here knows a model."""
