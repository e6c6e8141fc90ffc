"""The settings of the training job of a language model."""

from dataclasses import dataclass

from conveyor.training.settings import TrainingSettings, setting


@dataclass(frozen=True)
class Settings(TrainingSettings):
    """The settings of `conveyor train`. Raises BadInput for a value out of bounds."""

    text: tuple[str, ...] = setting((), "files, folders, corpora or - for standard input; none: the corpus pydoc")
    tokens: str = setting("char", "the unit of tokenisation", choices=("char", "byte", "word"))
    vocabulary_size: int = setting(10_000, "for words: size of the vocabulary; other words become <unk>", low=2)
    cell: str = setting("lstm", "the cell: a name (see conveyor cells) or file.py:ClassName")
    hidden_size: int = setting(192, "units of each layer", low=1)
    num_layers: int = setting(1, "layers", low=1)
    embedding_size: int = setting(0, "size of the embedding; 0: the size of the output", low=0)
    tie: bool = setting(True, "share the matrix of embedding and output, if their sizes are equal")
    dropout: float = setting(0.1, "dropout on the embedding, on the output and between layers", low=0, high=1)
    input_dropout: float = setting(0.0, "variational dropout on each layer's input", low=0, high=1)
    recurrent_dropout: float = setting(0.0, "variational dropout on the recurrent state", low=0, high=1)
    zoneout: float = setting(0.0, "probability that a unit keeps its old state", low=0, high=1)
    learn_initial_state: bool = setting(False, "learn the initial state")
    batch_size: int = setting(32, "rows of text per batch, in each process", low=1, high=100_000)
    window: int = setting(64, "tokens per step; gradients are truncated to this length", low=1)
    held_out: float = setting(0.1, "fraction of the text, at its end, held out for validation", above=0, high=0.9)
