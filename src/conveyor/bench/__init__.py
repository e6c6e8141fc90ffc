"""`conveyor bench`: times the layers against other implementations of the same computation, in one run.

conveyor bench --cell lstm --cell gru --shape 100,16,256,256 --threads 1

    plan        what to measure: cells, shapes, modes, threads
    suite       starts one process for each number of threads and collects its results
    worker      that process: builds the contenders for each task and times them in turn
    contenders  the implementations: this library, torch.nn, ONNX Runtime (onnx_op), JAX (jax_scan), torch.compile
    timing      interleaved repetitions
    machine     the limits of the machine: matrix products, reads from each cache
    cost        the operations of a cell, and a lower bound on its time on this machine
    earlier     the file written by an earlier run, and the comparison with it
    results     the measurements and figures derived from them
    report      tables, ratios, JSON;  plot: figures
"""
