"""Training data, independent of any model.

The synthetic tasks of the papers implement the interface in `task` and are exported here:

    task = TemporalOrder()
    batch = task.draw(32, torch.Generator().manual_seed(0))

The same interface serves a text (`characters`), images read pixel by pixel (`pixels`), Bach's chorales (`music`),
speaker recognition (`speakers`), Seattle's weather (`weather`), subject-verb agreement (`agreement`), and user-supplied
sequences, which a few lines of TOML describe (`own`).

The other modules provide the data of the language model and of the applications: `text`; images (`digits`, `mnist` and
`binarised`); images with captions (`scenes`); sentences in two languages (`verses`, `numbers` and `translation`, with
the vocabulary in `words`); music (`chorales`, with `midi` to write audible files); and speech (`vowels`).
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
