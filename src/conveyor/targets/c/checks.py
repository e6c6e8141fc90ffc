"""What tests ask of kernels in C."""

import os

# "nan": an element that is read before it is written spoils the result; "apart": every buffer is memory of its own, so
# that the compiler's sanitizer sees what is read or written beyond one.
CHECKS = os.environ.get("CONVEYOR_CHECKS", "").split()
