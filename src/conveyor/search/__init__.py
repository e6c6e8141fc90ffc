"""A search for better cells: an evolutionary search over the graphs of their equations, after Jozefowicz et al. 2015.

The files, in the order in which they build on each other:

    genome      a cell as a graph that can be mutated
    reading     a cell's step to a genome
    writing     a genome to the source of a cell
    mutate      the mutations
    population  which candidate descends from which
    config      the configuration of a search, and the outcome of each candidate
    evaluate    the fitness of one candidate
    search      the whole search, with workers and a ledger
    report      the results for a reader
"""
