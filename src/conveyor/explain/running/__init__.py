"""A language model step by step with changes: interpreted here, and emitted in JavaScript for a page."""
