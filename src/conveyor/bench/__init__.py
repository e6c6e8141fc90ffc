"""`conveyor bench`: the layers beside every other way to compute the same, in one run.

conveyor bench --cell lstm --cell gru --shape 100,16,256,256 --threads 1

    plan        what is to be measured: cells, shapes, modes, threads
    suite       one process for each number of threads, and what they report
    worker      that process: builds the contenders for each task and times them in turn
    contenders  the ways to compute it: this library, torch.nn, ONNX Runtime (onnx_op), JAX (jax_scan), torch.compile
    timing      interleaved repetitions
    machine     what the machine can do: matrix products, reads from each cache
    cost        what a cell asks for, and so the time that nothing on this machine can beat
    earlier     the file that an earlier run wrote, and how the times of now compare with it
    report      tables, ratios, JSON;  plot: pictures
"""
