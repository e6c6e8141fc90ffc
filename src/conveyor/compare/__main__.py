"""One worker of a comparison, as `conveyor compare` starts it: python -m conveyor.compare FOLDER"""

import sys
from functools import partial
from pathlib import Path

from conveyor.compare.compare import QUESTION, RUNS
from conveyor.compare.ledger import Ledger
from conveyor.compare.study import Question
from conveyor.compare.training import Training
from conveyor.compare.worker import main

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    question = Question.of_json((folder / QUESTION).read_text())
    main(lambda url: (Ledger(url, question), partial(Training, question=question, folder=folder / RUNS)))
