"""Interleaved measuring: subjects take turns within each repeat, so that whatever else goes on hits all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PRUNE = 2.0
"""Of several ways in which one subject can do the same, those slower than the best by more than this are left out."""

SAMPLES = 3
"""How many members of each axis are compared between subjects."""


@dataclass(frozen=True)
class Contestant:
    """Something to be timed.

    Parameters
    ----------
    subject
        Column of the table.
    run
        Does the work, and returns its result.
    variant
        Which way, if the subject has several (LiberTEM's executors); the fastest counts.
    calls
        How often `run` does what is measured.
    reference
        Subject to which this one is compared.
    upside_down
        Whether rows of the detector come in reverse order.
    """

    subject: str
    run: Callable[[], Any]
    variant: str = ""
    calls: int = 1
    reference: str = "limit"
    upside_down: bool = False

    def __str__(self) -> str:
        return f"{self.subject} ({self.variant})" if self.variant else self.subject


@dataclass
class Measurement:
    """All times of one contestant, in seconds."""

    contestant: Contestant
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median time of one call."""
        return statistics.median(self.seconds)

    @property
    def scatter(self) -> float:
        """Distance of the quartiles, relative to the median."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / self.median


@dataclass
class Contest:
    """What is timed against each other, and in what the results must agree.

    Parameters
    ----------
    contestants
        In any order.
    frames
        Whether the last two axes of results are those of the detector (rows can then be upside down).
    tolerance
        Relative difference of results that passes; `None`: results are not compared.
    facts
        Numbers beside the times, by name.
    notes
        What could not be measured, and why.
    """

    contestants: list[Contestant]
    frames: bool = False
    tolerance: float | None = 1e-3
    facts: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def measure(self, repeat: int) -> list[Measurement]:
        """Time all contestants so many times; of each subject's variants only the best is returned."""
        able = self._warm_up()
        alive = prune(able)
        measurements = [Measurement(contestant) for contestant in alive]
        for number in range(repeat):
            start = number % max(1, len(measurements))
            for measurement in measurements[start:] + measurements[:start]:
                measurement.seconds.append(timed(measurement.contestant))
        best: dict[str, Measurement] = {}
        for measurement in measurements:
            known = best.setdefault(measurement.contestant.subject, measurement)
            if measurement.median < known.median:
                best[measurement.contestant.subject] = measurement
        return list(best.values())

    def _warm_up(self) -> list[Contestant]:
        """Let everybody compile and cache, drop those who fail, and note whose results differ from the others'."""
        able: list[Contestant] = []
        agreed: tuple[str, np.ndarray] | None = None
        for contestant in self.contestants:
            try:
                result = contestant.run()
            except Exception as error:  # whatever a reader raises, the others go on
                lines = str(error).strip().splitlines() or [""]
                self.notes.append(f"{contestant} failed: {type(error).__name__}: {lines[0][:200]}")
                continue
            able.append(contestant)
            if self.tolerance is None or result is None:
                continue
            sample = sampled(result[..., ::-1, :] if self.frames and contestant.upside_down else result)
            if agreed is None:
                agreed = str(contestant), sample
            elif sample.shape != agreed[1].shape or not np.allclose(sample, agreed[1], rtol=self.tolerance, atol=1e-6):
                self.notes.append(f"{contestant} and {agreed[0]} DISAGREE: these numbers compare different things")
            del result  # or the next one needs twice the memory
        return able


def sampled(result: Any) -> np.ndarray:
    """Return members spread over each axis: enough to see whether two results are the same."""
    result = np.asarray(result)
    picks = [np.unique(np.linspace(0, n - 1, SAMPLES + 1).astype(int)) for n in result.shape]
    return result[np.ix_(*picks)].astype("f8")


def timed(contestant: Contestant) -> float:
    """Seconds of one call; what it returns is freed outside."""
    gc.collect()
    gc.disable()
    try:
        begin = time.perf_counter()
        result = contestant.run()
        seconds = time.perf_counter() - begin
    finally:
        gc.enable()
    del result
    return seconds / contestant.calls


def prune(contestants: Sequence[Contestant]) -> list[Contestant]:
    """Try variants of the same subject, and leave out those that are clearly not its best."""
    subjects = Counter(contestant.subject for contestant in contestants)
    trials = {contestant: timed(contestant) for contestant in contestants if subjects[contestant.subject] > 1}
    best: dict[str, float] = {}
    for contestant, seconds in trials.items():
        best[contestant.subject] = min(seconds, best.get(contestant.subject, seconds))
    return [c for c in contestants if c not in trials or trials[c] <= PRUNE * best[c.subject]]
