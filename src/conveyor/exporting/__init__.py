"""A layer or a language model outside Python, with the proof that what was written computes the same.

exported.py   what is exported: a step of all layers as one graph, its weights, its first states
recorded.py   what the layer itself gives on an example, by the loop over the step
format.py     what a format is: it writes files, and runs them
formats.py    the formats by name; each has a file or a folder
proof.py      compares what a format's files give with what was recorded
folder.py     files that appear all at once
write.py      conveyor.export: all of it in one function
translations.py  conveyor.onnx_translations: the same for torch.onnx.export
"""

from conveyor.exporting.translations import onnx_translations
from conveyor.exporting.write import Report, export

__all__ = ["Report", "export", "onnx_translations"]
