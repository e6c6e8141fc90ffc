"""The settings of a language model's training."""

from dataclasses import dataclass

from conveyor.training.settings import TrainingSettings, setting


@dataclass(frozen=True)
class Settings(TrainingSettings):
    """The settings of a language model's training; raises BadInput for a value that is out of bounds."""

    text: tuple[str, ...] = setting((), "files, folders, corpora or - for standard input; none: the topics of pydoc")
    tokens: str = setting("char", "what a token is", choices=("char", "byte", "word"))
    vocabulary_size: int = setting(10_000, "with words: how many, the rest are <unk>", low=2)
    cell: str = setting("lstm", "the cell: a name (see conveyor cells) or file.py:ClassName")
    hidden_size: int = setting(192, "units of each layer", low=1)
    num_layers: int = setting(1, "layers", low=1)
    embedding_size: int = setting(0, "width of a token's vector; 0: that of the output", low=0)
    tie: bool = setting(True, "the output uses the embedding's matrix, where the sizes allow")
    dropout: float = setting(0.1, "dropout on embedding, output and between layers", low=0, high=1)
    input_dropout: float = setting(0.0, "variational dropout on each layer's input", low=0, high=1)
    recurrent_dropout: float = setting(0.0, "variational dropout on the recurrent state", low=0, high=1)
    zoneout: float = setting(0.0, "probability that a unit keeps its old state", low=0, high=1)
    learn_initial_state: bool = setting(False, "the initial state is a parameter")
    batch_size: int = setting(32, "rows of text read side by side, in each process", low=1, high=100_000)
    window: int = setting(64, "tokens a step, and how far gradients go back", low=1)
    held_out: float = setting(0.1, "the tail of the text that is kept for validation", above=0, high=0.9)
