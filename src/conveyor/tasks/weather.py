"""Seattle's weather as two of the tasks of a comparison, from the files of the package vega_datasets.

`seattle-temps.csv` has a temperature for every hour of 2010 (the hour that daylight saving leaves out is missing). Its
source calls it the year's temperatures, but it is as smooth as an average over many years: it is within 37.5 and 75.9
degrees Fahrenheit all year, and an hour differs from the same hour of the day before by 0.2. So there is nothing that
cannot be foretold, and what is asked is how exactly. `seattle-weather.csv` has what was measured, for every day of 2012
to 2015: rain in mm, highest and lowest temperature in degrees Celsius, wind in m/s. Both are from NOAA.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import importlib.util
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from conveyor.errors import BadInput
from conveyor.tasks.task import PARTS, Batch, Data, RegressionTask, StoredTask, at, check

CURE = "pip install 'conveyor[series]'"
VERSION = "vega_datasets 0.9.0"
LICENCE = "the package's is MIT; the data are NOAA's, in the public domain"


@dataclass(frozen=True)
class Table:
    """A file, the columns that are known at each step, the one that is to be told, and the parts in the order of time.

    `cuts`: where validation and test begin, in steps.
    """

    file: str
    checksum: str
    inputs: tuple[str, ...]
    target: str
    cuts: tuple[int, int]


HOURS = Table(
    "seattle-temps.csv",
    "c220666521ff4bec4ffb6f0d9acfdc5c1056564b1aad6f78d3b06aa0a0c8b085",
    ("temp",),
    "temp",
    (6_132, 7_446),  # 70 of 100 and 85
)
DAYS = Table(
    "seattle-weather.csv",
    "62f0609f787158128aa2bd102967173a4953122dd4f872bf1d502cae1037df0b",
    ("precipitation", "temp_max", "temp_min", "wind"),
    "temp_max",
    (731, 1_096),  # 2012 and 2013, 2014, 2015
)


@dataclass(frozen=True)
class _Forecast(StoredTask, RegressionTask):
    """At the end of `length` steps, a temperature at the next is to be told. Windows of two parts share no step."""

    length: int
    table: ClassVar[Table]
    season: ClassVar[int] = 0  # steps after which it is about the same again, where there are such
    tolerance: ClassVar[float] = 0.1  # of a standard deviation
    optimum: ClassVar[float] = math.nan
    output_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check("the length of a window", self.length, 1)
        least = min(b - a for a, b in zip(self.table.cuts, self.table.cuts[1:], strict=False)) - 1
        if self.length > least:
            raise BadInput(f"a window of {self.table.file} has {least} steps at most, not {self.length}")

    @property
    def input_size(self) -> int:
        return len(self.table.inputs)

    @property
    def parts(self) -> dict[str, Batch]:
        return parts(self.table, self.length)

    @property
    def chance(self) -> float:
        return self.repeating(1)

    def repeating(self, ago: int) -> float:
        """The metric on the test part of who says what was so many steps before."""
        _, target = read(self.table)
        first = self.table.cuts[1] + self.length
        error = target[first:] - target[first - ago : len(target) - ago]
        return float(error.square().mean().sqrt())

    def rules(self) -> dict[str, float]:
        return {f"as {self.season} steps before": self.repeating(self.season)} if self.season else {}

    def measure(self, outputs: Tensor, batch: Batch) -> float:
        _, target = read(self.table)
        deviation = target[: self.table.cuts[0]].std(correction=0)
        return math.sqrt(float(self.loss(outputs, batch))) * float(deviation)


@dataclass(frozen=True)
class HourlyTemperature(_Forecast):
    """From the temperatures of so many hours, that of the next: Seattle's of 2010, degrees Fahrenheit.

        task = HourlyTemperature(48)
        task.chance, task.repeating(24)         # who says that it stays, 0.57; that it is as it was a day before, 0.21

    The metric is the root of the mean squared error. The first 70 of 100 hours are to learn from, the next 15 for
    validation, the last for testing: November and December, which nobody has seen.

    Raises BadInput where vega_datasets is missing or its file is another.
    """

    length: int = 48
    table: ClassVar[Table] = HOURS
    season: ClassVar[int] = 24
    metric: ClassVar[str] = "degrees Fahrenheit wrong"
    data: ClassVar[Data] = Data(f"{VERSION}: {HOURS.file}", LICENCE, HOURS.checksum, (6_084, 1_266, 1_265))


@dataclass(frozen=True)
class DailyTemperature(_Forecast):
    """From rain, temperatures and wind of so many days, the highest temperature of the next: Seattle's, in Celsius.

        task = DailyTemperature(30)
        task.chance                             # who says that it stays, 2.93

    The metric is the root of the mean squared error. 2012 and 2013 are to learn from, 2014 is for validation, 2015 for
    testing. What is best possible is not known.

    Raises BadInput where vega_datasets is missing or its file is another.
    """

    length: int = 30
    table: ClassVar[Table] = DAYS
    metric: ClassVar[str] = "degrees Celsius wrong"
    data: ClassVar[Data] = Data(f"{VERSION}: {DAYS.file}", LICENCE, DAYS.checksum, (701, 335, 335))


@functools.cache
def parts(table: Table, length: int) -> dict[str, Batch]:
    """The windows of each part, side by side: each begins a step after the one before."""
    inputs, target = (_normal(values, table.cuts[0]) for values in read(table))
    bounds = (0, *table.cuts, len(target))
    return {
        name: _windows(inputs[begin:end], target[begin:end], length)
        for name, begin, end in zip(("learn", *PARTS), bounds, bounds[1:], strict=False)
    }


def _normal(values: Tensor, learnt: int) -> Tensor:
    """With mean 0 and standard deviation 1 over the steps that are learnt from."""
    return (values - values[:learnt].mean(0)) / values[:learnt].std(0, correction=0)


def _windows(inputs: Tensor, target: Tensor, length: int) -> Batch:
    windows = inputs.unfold(0, length, 1)[:-1].permute(2, 0, 1)  # [T, B, input_size]
    lengths = torch.full((windows.shape[1],), length)
    last = at(lengths - 1, lengths)
    return Batch(windows.contiguous(), (target[length:] * last)[..., None], last, lengths)


@functools.cache
def read(table: Table) -> tuple[Tensor, Tensor]:
    """The columns that are known, [T, inputs], and the one to be told, [T]. Raises BadInput for another file."""
    spec = importlib.util.find_spec("vega_datasets")
    if spec is None or spec.origin is None:
        raise BadInput(f"the weather is in the package vega_datasets, which is not installed: {CURE}")
    path = Path(spec.origin).parent / "_data" / table.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}; {CURE}") from error
    if hashlib.sha256(data).hexdigest() != table.checksum:
        raise BadInput(f"{path} is not the file of {VERSION} that is known: {CURE}")
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    columns = np.array([[float(row[name]) for name in (*table.inputs, table.target)] for row in rows], np.float32)
    values = torch.from_numpy(columns)
    return values[:, :-1], values[:, -1]
