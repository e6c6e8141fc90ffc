"""PyTorch's own RNN, LSTM and GRU, for the steps that are theirs: cuDNN, MIOpen and MPS run behind them.

plan.py     whether a graph is theirs, and where the weights of theirs lie in the graph's
weights.py  the weights, put together, and as one piece of memory
call.py     the call, and sequences of different lengths      operator.py  the same as an operator, for torch.compile
"""
