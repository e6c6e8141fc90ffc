"""One worker of a comparison, as `conveyor compare` starts it: python -m conveyor.compare FOLDER"""

import os
import sys
from pathlib import Path

import torch

from conveyor.compare.compare import DATABASE, QUESTION, RUNS
from conveyor.compare.ledger import Away, Ledger
from conveyor.compare.study import Question
from conveyor.compare.worker import Worker
from conveyor.errors import BadInput

if __name__ == "__main__":
    import torch._dynamo  # what every training imports at its first step, once for all that come from this process

    torch.set_num_threads(1)  # a process that had threads of its own could not be forked
    folder = Path(sys.argv[1])
    try:
        ledger = Ledger(os.environ[DATABASE], Question.of_json((folder / QUESTION).read_text()))
        ledger.open()
        Worker(folder / RUNS, ledger, os.getppid()).run()
    except Away:  # which who began it sees, too, and says once
        sys.exit(os.EX_TEMPFAIL)
    except BadInput as error:
        sys.exit(f"conveyor: {error}")
