"""`python -m conveyor` is the command `conveyor`; and so `torchrun -m conveyor`."""

from conveyor.cli import main

main()
