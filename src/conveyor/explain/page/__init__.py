"""The page on which a network runs: its data, tour, HTML file and server. `web/` is its JavaScript."""
