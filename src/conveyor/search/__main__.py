"""One worker of a search, as `conveyor search` starts it: python -m conveyor.search FOLDER"""

import sys
from functools import partial
from pathlib import Path

from conveyor.compare.compare import CONFIG
from conveyor.compare.ledger import Ledger
from conveyor.compare.worker import main
from conveyor.search.config import SearchConfig
from conveyor.search.evaluate import Evaluation

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    config = SearchConfig.of_json((folder / CONFIG).read_text())
    main(lambda url: (Ledger(url, config), partial(Evaluation, config=config, folder=folder)))
