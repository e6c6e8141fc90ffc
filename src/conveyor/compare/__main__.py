"""One worker of a comparison, as `conveyor compare` starts it: python -m conveyor.compare FOLDER"""

import sys
from functools import partial
from pathlib import Path

from conveyor.compare.compare import CONFIG, RUNS
from conveyor.compare.ledger import Ledger
from conveyor.compare.study import ComparisonConfig
from conveyor.compare.training import TrialWork
from conveyor.compare.worker import main

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    config = ComparisonConfig.of_json((folder / CONFIG).read_text())
    main(lambda url: (Ledger(url, config), partial(TrialWork, config=config, folder=folder / RUNS)))
