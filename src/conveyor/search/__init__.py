"""A search for better cells: evolution over the graphs of their equations, in the manner of Jozefowicz et al. 2015.

In the order of the files: `genome` a cell as a graph that can be changed; `reading` a genome out of a cell's step;
`writing` a step out of a genome; `mutate` the changes; `breed` which candidate comes from which; `quest` what is asked,
and what came of each; `appraise` what a candidate is worth; `search` all of it, with workers and a ledger; `report`
what a person reads.
"""
