"""Data to learn from. Nothing here knows a model.

`text` is for language models; the others are the papers' own synthetic tasks, of the form that `task` describes:

    task = TemporalOrder()
    batch = task.draw(32, torch.Generator().manual_seed(0))
"""

from conveyor.tasks.adding import Adding, HalvesAdding
from conveyor.tasks.counting import Counting
from conveyor.tasks.lag import Lag
from conveyor.tasks.parity import Parity
from conveyor.tasks.reber import Reber
from conveyor.tasks.task import Batch, Task
from conveyor.tasks.temporal_order import TemporalOrder
from conveyor.tasks.timing import GeneratedSpikes, MeasuredSpikes
from conveyor.tasks.wave import Wave

__all__ = [
    "Adding",
    "Batch",
    "Counting",
    "GeneratedSpikes",
    "HalvesAdding",
    "Lag",
    "MeasuredSpikes",
    "Parity",
    "Reber",
    "Task",
    "TemporalOrder",
    "Wave",
]
