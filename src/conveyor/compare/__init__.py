"""Which cell is best, and do the differences matter? The same work for many cells, with statistics.

From a study to a report, in the order of the files: `study` what is asked; `draws` the configurations; `trial` one
training; `ledger` who does which trial; `worker` a process that does them; `outcomes` what came out; `statistics` what
can be believed of it; `report` what a person reads.
"""
