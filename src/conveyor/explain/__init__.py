"""What a cell does, shown: its diagram, its formulas, its values on a text, and the page on which it runs."""
