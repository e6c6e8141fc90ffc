"""Networks of the papers, each at work on a small real task: what `conveyor run NAME` trains, measures and draws."""

from importlib import import_module

from conveyor.training.job import TrainingJob

# By name: the module and the class. A new application joins here, and so gets its command and the tests of all.
APPLICATIONS: dict[str, str] = {
    "attend": "conveyor.applications.attend:Attend",
    "draw": "conveyor.applications.draw:Draw",
    "storn": "conveyor.applications.storn:LearnSTORN",
    "translate": "conveyor.applications.translate:Translate",
    "vrnn": "conveyor.applications.vrnn:LearnVRNN",
}


def applications() -> dict[str, type[TrainingJob]]:
    """The classes by name."""
    places = {name: place.split(":") for name, place in APPLICATIONS.items()}
    return {name: getattr(import_module(module), kind) for name, (module, kind) in places.items()}
