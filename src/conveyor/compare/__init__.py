"""Comparisons of cells: which cell is best, and are the differences significant?

From configuration to report: `study` configures a comparison; `problems` is the registry of tasks; `trial` is one
training run, and `training` runs it in a worker; `ledger` keeps the state of every trial; `worker` is a process that
runs trials; `compare` starts the workers; `outcomes`, `statistics`, `pictures` and `report` evaluate the results.
"""
