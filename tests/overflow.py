"""A kernel that writes one number too many: `scripts/test --sanitize` wants this to fail, or it would see nothing."""

import ctypes

import torch

from conveyor.targets.c import build


def test_one_number_too_many():
    library = build.load("void f(float *p, long n) { for (long i = 0; i <= n; i++) p[i] = 1; }", False)
    room = torch.empty(100)
    library.f(ctypes.c_void_p(room.data_ptr()), ctypes.c_long(100))
