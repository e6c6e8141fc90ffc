"""The picture of a cell: what is placed, where, the lines between, and all of it as SVG."""
