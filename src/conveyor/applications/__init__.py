"""Networks from the literature on small real tasks, run by `conveyor run NAME`: training, evaluation and figures."""

from importlib import import_module

from conveyor.training.job import TrainingJob

# Module and class by name. An application that is added here gets its command and the tests that cover all of them.
APPLICATIONS: dict[str, str] = {
    "attend": "conveyor.applications.attend:Attend",
    "draw": "conveyor.applications.draw:Draw",
    "storn": "conveyor.applications.storn:LearnSTORN",
    "translate": "conveyor.applications.translate:Translate",
    "vrnn": "conveyor.applications.vrnn:LearnVRNN",
}


def applications() -> dict[str, type[TrainingJob]]:
    """The training job of each application, by name."""
    places = {name: place.split(":") for name, place in APPLICATIONS.items()}
    return {name: getattr(import_module(module), kind) for name, (module, kind) in places.items()}
