"""What the papers say, in NumPy, one function a cell, written without looking at the package and not importing it.

Each takes the input x [T, B, I], the states before the first step [B, H] and the paper's matrices, and returns the
output [T, B, H] and the last states. A matrix W multiplies the concatenation that the paper gives it, as W · [h, x].
Complex numbers pass through, so that an exact derivative is one evaluation with an imaginary step.
"""
