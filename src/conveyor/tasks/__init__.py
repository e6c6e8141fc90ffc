"""Data to learn from. Nothing here knows a model.

The papers' own synthetic tasks are of the form that `task` describes, and have their names here:

    task = TemporalOrder()
    batch = task.draw(32, torch.Generator().manual_seed(0))

Of the same form are a text (`characters`), images point by point (`pixels`), Bach's chorales (`music`), speakers,
Seattle's weather, sentences (`agreement`), and user-supplied sequences, which a few lines of TOML describe (`own`).

The other modules are the data of the language model and the applications: `text`; `digits`, `mnist` and
`binarised`, images; `scenes`, images with captions; `verses`, `numbers` and `translation`, sentences in two languages
(`words` makes numbers of them); `chorales`, with `midi` to hear them, and `vowels`, speech.
"""

from conveyor.tasks.adding import Adding, HalvesAdding
from conveyor.tasks.copy_memory import CopyMemory
from conveyor.tasks.counting import Counting
from conveyor.tasks.lag import Lag, NoisyLag
from conveyor.tasks.parity import Parity
from conveyor.tasks.reber import ContinualReber, Reber
from conveyor.tasks.task import Batch, Task
from conveyor.tasks.temporal_order import TemporalOrder
from conveyor.tasks.timing import GeneratedSpikes, MeasuredSpikes
from conveyor.tasks.wave import Wave

__all__ = [
    "Adding",
    "Batch",
    "ContinualReber",
    "CopyMemory",
    "Counting",
    "GeneratedSpikes",
    "HalvesAdding",
    "Lag",
    "MeasuredSpikes",
    "NoisyLag",
    "Parity",
    "Reber",
    "Task",
    "TemporalOrder",
    "Wave",
]
