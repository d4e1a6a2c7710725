"""What the engine must reach, as data: time ratios that ours may have at most, against each of the others.

`docs/performance.md` says how they were found. Below 1 is faster than the other; absolute targets are in seconds or
bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

REDUCTIONS = ("mean", "sum", "virtual", "dot")
MERLIN_RAW = ("R1", "R6", "R12")
HEADERS = ("headers", "blo")
EVERY = ("native", *HEADERS, "float32", "big-endian", *MERLIN_RAW, "k2is")


@dataclass(frozen=True)
class Target:
    """One limit.

    Parameters
    ----------
    workloads, kinds
        Where it holds; kinds as in `benchmarks.cases`.
    subject
        Which of our subjects.
    against
        ``"reference"`` (of the workload), ``"LiberTEM"``, ``"RosettaSciIO"``; or ``"seconds"``, ``"seconds more"``
        (than the reference), and names of facts, for absolute numbers.
    most
        What the ratio or number may be.
    """

    workloads: tuple[str, ...]
    kinds: tuple[str, ...]
    subject: str
    against: str
    most: float


def _targets(workloads: Iterable[str], kinds: Iterable[str], **most: float) -> list[Target]:
    """Targets from keywords such as ``plain__reference=3.5``."""
    targets = []
    for key, value in most.items():
        subject, against = (part.replace("_", " ") for part in key.split("__"))
        targets.append(Target(tuple(workloads), tuple(kinds), subject, against, value))
    return targets


TARGETS = (
    *_targets(REDUCTIONS, ["native", "headers"], plain__reference=3.5, fused__reference=1.5),
    *_targets(REDUCTIONS, ["blo"], plain__reference=5),
    *_targets(["mean", "virtual", "dot"], ["blo"], fused__reference=1.5),
    *_targets(["sum"], ["blo"], fused__reference=2.5),
    *_targets(REDUCTIONS, ["native", *HEADERS], plain__LiberTEM=0.6, fused__LiberTEM=0.25),
    *_targets(REDUCTIONS, ["native"], plain__RosettaSciIO=1.0, fused__RosettaSciIO=0.45),
    *_targets(REDUCTIONS, HEADERS, plain__RosettaSciIO=0.7, fused__RosettaSciIO=0.45),
    *_targets(REDUCTIONS, ["float32"], plain__reference=2, plain__LiberTEM=1.0, plain__RosettaSciIO=0.8),
    *_targets(REDUCTIONS, ["float32"], fused__reference=1.2, fused__LiberTEM=1.0, fused__RosettaSciIO=0.8),
    *_targets(REDUCTIONS, ["big-endian"], plain__reference=5, plain__LiberTEM=1.1, plain__RosettaSciIO=0.85),
    *_targets(REDUCTIONS, ["big-endian"], fused__reference=1.5, fused__LiberTEM=0.35, fused__RosettaSciIO=0.3),
    *_targets(REDUCTIONS, ["R6"], plain__reference=7, fused__reference=2.5),
    *_targets(REDUCTIONS, ["R12"], plain__reference=5, fused__reference=2.2),
    *_targets(REDUCTIONS, ["R6", "R12"], plain__LiberTEM=0.8, fused__LiberTEM=0.35),
    *_targets(REDUCTIONS, ["R1"], plain__reference=28, fused__reference=8, plain__LiberTEM=0.7, fused__LiberTEM=0.25),
    *_targets(REDUCTIONS, ["k2is"], plain__reference=15, fused__reference=2.5, plain__LiberTEM=2, fused__LiberTEM=0.4),
    *_targets(["corrected"], HEADERS, plain__reference=15, fused__reference=2.2),
    *_targets(["corrected"], HEADERS, plain__LiberTEM=1.4, fused__LiberTEM=0.25),
    *_targets(["load"], [k for k in EVERY if k not in ("R1", "k2is")], plain__reference=1.4),
    *_targets(["load"], [k for k in EVERY if k != "k2is"], plain__LiberTEM=0.8, plain__RosettaSciIO=0.8),
    *_targets(["load"], ["k2is"], plain__reference=5, plain__LiberTEM=0.4),
    *_targets(["rows"], [k for k in EVERY if k not in ("R1", "k2is")], plain__reference=3),
    *_targets(["rows"], EVERY, plain__LiberTEM=0.3, plain__RosettaSciIO=0.7),
    *_targets(["frames"], EVERY, plain__seconds=2e-3, plain__LiberTEM=0.8, plain__RosettaSciIO=1.0),
    *_targets(["frames"], EVERY, no_dask__seconds=0.15e-3, no_dask__LiberTEM=0.06, no_dask__RosettaSciIO=0.08),
    *_targets(["open"], EVERY, plain__seconds=5e-3, plain__RosettaSciIO=2),
    *_targets(["newprocess"], EVERY, plain__reference=1.15, plain__LiberTEM=0.8, plain__RosettaSciIO=1.1),
    *_targets(["graph"], EVERY, plain__seconds_more=0.3, plain__LiberTEM=0.9, plain__RosettaSciIO=1.1),
    Target(("graph",), EVERY, "", "pickled bytes", 10_000),
    Target(("graph",), EVERY, "", "bytes read", 8 << 20),
    *_targets(["distributed"], EVERY, plain__reference=1 / 0.7, fused__reference=1 / 0.7),
    Target(("distributed",), EVERY, "", "bytes through the scheduler", 1e6),
    *_targets(["remote"], EVERY, load__reference=1 / 0.8, plain_mean__reference=1 / 0.8, fused_mean__reference=1 / 0.8),
)


def targets_for(workload: str, kind: str, subject: str) -> dict[str, float]:
    """What one of our subjects must reach in a workload, by what it is compared to."""
    return {
        target.against: target.most
        for target in TARGETS
        if workload in target.workloads and kind in target.kinds and subject == target.subject
    }
