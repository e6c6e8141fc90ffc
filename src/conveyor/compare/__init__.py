"""Which cell is best, and do the differences matter? The same work for many cells, with statistics.

From configuration to report: `study` configures a comparison; `problems` names the tasks; `trial` is one training, and
`training` how a worker runs it; `ledger` says which trial is waiting, running or done; `worker` is a process that runs
trials; `compare` starts the workers; `outcomes`, `statistics`, `pictures` and `report` are for the results.
"""
