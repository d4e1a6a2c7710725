"""The other readers: LiberTEM with its executors, and RosettaSciIO on dask."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases import Arguments, Call, Case, Files
from .ours import in_memory

EXECUTORS = ("inline", "threads", "dask")

logging.getLogger("libertem").setLevel(logging.ERROR)


_CONTEXTS: dict[str, Any] = {}


def context(executor: str) -> Any:
    """LiberTEM's context with one of its executors; it lives until `close_contexts`."""
    from libertem.api import Context

    if executor not in _CONTEXTS:
        _CONTEXTS[executor] = Context.make_with(executor)
    return _CONTEXTS[executor]


def close_contexts() -> None:
    """End the executors that were used."""
    while _CONTEXTS:
        _CONTEXTS.popitem()[1].close()


class LiberTEM:
    """LiberTEM's own functions for each task.

    Parameters
    ----------
    case, files
        What to open.
    executor
        One of `EXECUTORS`.
    corrected
        Whether dark and gain that lie beside the file are applied.
    """

    name = "LiberTEM"

    def __init__(self, case: Case, files: Files, executor: str, corrected: bool = False):
        from libertem.io.corrections import CorrectionSet

        if case.libertem is None:
            raise NotImplementedError(f"LiberTEM cannot read {case.name}")
        self.variant = executor
        self.upside_down = case.format == "mib"  # rows as stored
        self.context = context(executor)
        self.format = case.format
        self.arguments: Arguments = {"path": files.path, **case.libertem(files)}
        self.count = math.prod(files.scan)
        self.corrections = None if corrected else CorrectionSet()
        self.dataset = self.open()

    def open(self) -> Any:
        """Open the file."""
        return self.context.load(self.format, **self.arguments)

    def load(self) -> NDArray:
        """Everything in memory."""
        from libertem.contrib.daskadapter import make_dask_array

        array, _ = make_dask_array(self.dataset, dtype=self.dataset.dtype.newbyteorder("="))
        return in_memory(array.compute(scheduler="sync" if self.variant == "inline" else "threads"))

    def mean(self) -> NDArray:
        """Mean frame."""
        from libertem.udf.sum import SumUDF

        return self._run(SumUDF()) / self.count

    def sum(self) -> NDArray:
        """Sum over the detector."""
        from libertem.udf.sumsigudf import SumSigUDF

        return self._run(SumSigUDF())

    def virtual(self, mask: NDArray) -> NDArray:
        """Virtual detector."""
        return self.dot(mask[np.newaxis])[0]

    def dot(self, masks: NDArray) -> NDArray:
        """Several virtual detectors, (mask, y, x)."""
        from libertem.udf.masks import ApplyMasksUDF

        udf = ApplyMasksUDF(mask_factories=lambda: masks, mask_count=len(masks), mask_dtype=masks.dtype)
        return np.moveaxis(self._run(udf), -1, 0)

    def rows(self, band: slice) -> NDArray:
        """Band of scan rows."""
        roi = np.zeros(self.dataset.shape.nav, bool)
        roi[band] = True
        picked = self._pick(roi)
        return picked.reshape(-1, roi.shape[1], *picked.shape[1:])

    def frames(self, points: Sequence[tuple[int, int]]) -> NDArray:
        """Single frames, one after the other."""
        frames = []
        for point in points:
            roi = np.zeros(self.dataset.shape.nav, bool)
            roi[point] = True
            frames.append(self._pick(roi)[0])
        return np.stack(frames)

    def _pick(self, roi: NDArray[np.bool_]) -> NDArray:
        from libertem.udf.raw import PickUDF

        return self._run(PickUDF(), roi=roi)

    def _run(self, udf: Any, roi: NDArray[np.bool_] | None = None) -> NDArray:
        result = self.context.run_udf(dataset=self.dataset, udf=udf, roi=roi, corrections=self.corrections)
        return np.asarray(result["intensity"].data)

    def code(self) -> str:
        """Source text that opens the file in a new process."""
        return (
            "from libertem.api import Context\n"
            f"result = Context.make_with({self.variant!r}).load({self.format!r}, **{dict(self.arguments)!r})\n"
        )

    def graph_code(self) -> str:
        """Source text that opens the file; there are no graphs to make."""
        return self.code()


class RosettaSciIO:
    """RosettaSciIO's lazy arrays, reduced with dask.

    Parameters
    ----------
    case, files
        What to open.
    """

    name = "RosettaSciIO"
    upside_down = False

    def __init__(self, case: Case, files: Files, variant: str = ""):
        import rsciio

        if case.rosettasciio is None:
            raise NotImplementedError(f"RosettaSciIO cannot read {case.name}")
        rsciio.set_log_level("ERROR")
        self.variant = variant
        self.opener = case.rosettasciio(files)
        self.array = self._array(self.open())

    def open(self) -> Any:
        """Open the file lazily."""
        return self.opener()

    @staticmethod
    def _array(opened: Any) -> Any:
        return opened[0]["data"] if isinstance(opened, list) else opened

    def load(self) -> NDArray:
        """Everything in memory: by its eager reader, or by computing the lazy array, as `variant` says."""
        call = self.opener
        if self.variant == "eager" and call.keywords.get("lazy"):
            call = Call(call.module, call.function, call.arguments, {**call.keywords, "lazy": False})
            return in_memory(self._array(call()))
        return self._computed(self.array)

    def mean(self) -> NDArray:
        """Mean frame."""
        return self._computed(self.array.mean((0, 1)))

    def sum(self) -> NDArray:
        """Sum over the detector."""
        return self._computed(self.array.sum((2, 3)))

    def virtual(self, mask: NDArray) -> NDArray:
        """Virtual detector."""
        import dask.array as da

        return self._computed(da.einsum("yxvu,vu->yx", self.array, mask))

    def dot(self, masks: NDArray) -> NDArray:
        """Several virtual detectors, (mask, y, x)."""
        import dask.array as da

        return self._computed(da.einsum("yxvu,mvu->myx", self.array, masks))

    def rows(self, band: slice) -> NDArray:
        """Band of scan rows."""
        return self._computed(self.array[band])

    def frames(self, points: Sequence[tuple[int, int]]) -> NDArray:
        """Single frames, one after the other."""
        return np.stack([self._computed(self.array[point]) for point in points])

    @staticmethod
    def _computed(array: Any) -> NDArray:
        return in_memory(array.compute(scheduler="threads"))

    def code(self) -> str:
        """Source text that opens the file in a new process."""
        return self.opener.code() + "if isinstance(result, list):\n    result = result[0]['data']\n"

    def graph_code(self) -> str:
        """Source text that opens the file and makes two graphs."""
        return self.code() + "mean = result.mean((0, 1))\nsum = result.sum((2, 3))\n"
