"""Runs a language model step by step with edits: interpreted in Python, or emitted as JavaScript for a page."""
