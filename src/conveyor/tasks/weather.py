"""Seattle's weather as two tasks of a comparison, from the files of the package vega_datasets.

`seattle-temps.csv` has a temperature for every hour of 2010, except the hour that daylight saving time skips. Its
source describes it as the temperatures of that year, but it is as smooth as an average over many years: it stays
between 37.5 and 75.9 degrees Fahrenheit all year, and an hour differs from the same hour of the previous day by 0.2. So
everything is predictable, and the question is how precisely. `seattle-weather.csv` has measurements for every day of
2012 to 2015: precipitation in mm, highest and lowest temperature in degrees Celsius, wind in m/s. Both come from NOAA.
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
LICENCE = "MIT for the package; the data come from NOAA and are in the public domain"


@dataclass(frozen=True)
class Table:
    """A file, its input columns, its target column, and its split in temporal order.

    `cuts` are the first steps of the validation and of the test part.
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
    (6_132, 7_446),  # 70 % and 85 %
)
DAYS = Table(
    "seattle-weather.csv",
    "62f0609f787158128aa2bd102967173a4953122dd4f872bf1d502cae1037df0b",
    ("precipitation", "temp_max", "temp_min", "wind"),
    "temp_max",
    (731, 1_096),  # 2014 and 2015
)


@dataclass(frozen=True)
class _Forecast(StoredTask, RegressionTask):
    """Base class: predict the next temperature from a window of `length` steps. No step is in windows of two parts."""

    length: int
    table: ClassVar[Table]
    season: ClassVar[int] = 0  # the period in steps; 0 if there is none
    tolerance: ClassVar[float] = 0.1  # of a standard deviation
    optimum: ClassVar[float] = math.nan
    output_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check("the length of a window", self.length, 1)
        least = min(b - a for a, b in zip(self.table.cuts, self.table.cuts[1:], strict=False)) - 1
        if self.length > least:
            raise BadInput(f"a window of {self.table.file} can have {least} steps at most, not {self.length}")

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
        """The metric on the test part when the prediction is the value `ago` steps before."""
        _, target = read(self.table)
        first = self.table.cuts[1] + self.length
        error = target[first:] - target[first - ago : len(target) - ago]
        return float(error.square().mean().sqrt())

    def rules(self) -> dict[str, float]:
        return {f"same as {self.season} steps before": self.repeating(self.season)} if self.season else {}

    def measure(self, outputs: Tensor, batch: Batch) -> float:
        _, target = read(self.table)
        deviation = target[: self.table.cuts[0]].std(correction=0)
        return math.sqrt(float(self.loss(outputs, batch))) * float(deviation)


@dataclass(frozen=True)
class HourlyTemperature(_Forecast):
    """Predict Seattle's temperature of the next hour from the last `length` hours of 2010, in degrees Fahrenheit.

        task = HourlyTemperature(48)
        task.chance, task.repeating(24)         # predict no change: 0.57; the same as a day before: 0.21

    The metric is the root mean squared error. The first 70 % of the year are for training, the next 15 % for
    validation, the last 15 %, November and December, for testing.

    Raises BadInput if vega_datasets is missing or its file differs.
    """

    length: int = 48
    table: ClassVar[Table] = HOURS
    season: ClassVar[int] = 24
    metric: ClassVar[str] = "RMSE in degrees Fahrenheit"
    data: ClassVar[Data] = Data(f"{VERSION}: {HOURS.file}", LICENCE, HOURS.checksum, (6_084, 1_266, 1_265))


@dataclass(frozen=True)
class DailyTemperature(_Forecast):
    """Predict Seattle's highest temperature of the next day from the weather of the last `length` days, in Celsius.

        task = DailyTemperature(30)
        task.chance                             # predict no change: 2.93

    The inputs are precipitation, highest and lowest temperature, and wind. The metric is the root mean squared error.
    2012 and 2013 are for training, 2014 for validation, 2015 for testing. The optimum is not known.

    Raises BadInput if vega_datasets is missing or its file differs.
    """

    length: int = 30
    table: ClassVar[Table] = DAYS
    metric: ClassVar[str] = "RMSE in degrees Celsius"
    data: ClassVar[Data] = Data(f"{VERSION}: {DAYS.file}", LICENCE, DAYS.checksum, (701, 335, 335))


@functools.cache
def parts(table: Table, length: int) -> dict[str, Batch]:
    """The windows of each part, as one batch; each window starts one step after the previous one."""
    inputs, target = (_normal(values, table.cuts[0]) for values in read(table))
    bounds = (0, *table.cuts, len(target))
    return {
        name: _windows(inputs[begin:end], target[begin:end], length)
        for name, begin, end in zip(("learn", *PARTS), bounds, bounds[1:], strict=False)
    }


def _normal(values: Tensor, learnt: int) -> Tensor:
    """The values with mean 0 and standard deviation 1 over the first `learnt` steps."""
    return (values - values[:learnt].mean(0)) / values[:learnt].std(0, correction=0)


def _windows(inputs: Tensor, target: Tensor, length: int) -> Batch:
    windows = inputs.unfold(0, length, 1)[:-1].permute(2, 0, 1)  # [T, B, input_size]
    lengths = torch.full((windows.shape[1],), length)
    last = at(lengths - 1, lengths)
    return Batch(windows.contiguous(), (target[length:] * last)[..., None], last, lengths)


@functools.cache
def read(table: Table) -> tuple[Tensor, Tensor]:
    """The input columns, [T, inputs], and the target column, [T].

    Raises BadInput if vega_datasets is missing or its file differs.
    """
    spec = importlib.util.find_spec("vega_datasets")
    if spec is None or spec.origin is None:
        raise BadInput(f"the weather comes from the package vega_datasets, which is not installed: {CURE}")
    path = Path(spec.origin).parent / "_data" / table.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}; {CURE}") from error
    if hashlib.sha256(data).hexdigest() != table.checksum:
        raise BadInput(f"{path} differs from the file of {VERSION}: {CURE}")
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    columns = np.array([[float(row[name]) for name in (*table.inputs, table.target)] for row in rows], np.float32)
    values = torch.from_numpy(columns)
    return values[:, :-1], values[:, -1]
