"""The page on which a network runs: its data, its tour, the one file of it, the server. `web/` is what runs in it."""
