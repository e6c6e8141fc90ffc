"""One worker of a search, as `conveyor search` starts it: python -m conveyor.search FOLDER"""

import sys
from functools import partial
from pathlib import Path

from conveyor.compare.compare import CONFIG
from conveyor.compare.ledger import Ledger
from conveyor.compare.worker import main
from conveyor.search.appraise import Appraisal
from conveyor.search.quest import Quest

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    quest = Quest.of_json((folder / CONFIG).read_text())
    main(lambda url: (Ledger(url, quest), partial(Appraisal, quest=quest, folder=folder)))
