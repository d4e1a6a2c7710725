"""`image.emio` and `ds.emio`: reductions fused with reading, virtual detectors, regions of interest.

Everything is lazy and labelled, and gives what plain xarray gives. On an `image` fresh from `imload` the work is
done while reading, in one pass; on anything else by plain xarray and dask.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from dask.array.core import normalize_chunks

from . import arguments
from .axes import units_of
from .errors import ArgumentError
from .frames.lazy import load
from .frames.pixels import Pixels, sum_type
from .frames.reduced import lazy_dots, lazy_sum, lazy_totals
from .frames.views import Permuted
from .indexed import pixels_behind

Dims = str | Iterable[Hashable] | None
MASK = "mask"
"""Name of the axis that counts masks."""


@dataclass(frozen=True)
class FrameImage:
    """An image that still is frames in files: pixels with the names and chunks of their axes, as stored."""

    pixels: Pixels
    axes: tuple[Hashable, ...]
    chunks: tuple[tuple[int, ...], ...]

    @classmethod
    def behind(cls, image: xr.DataArray) -> FrameImage | None:
        """Return the frames behind an image; `None` if it is something else, or cut within frames."""
        pixels = pixels_behind(image.variable)
        if pixels is None:
            return None
        axes, chunks = image.dims, image.chunks or normalize_chunks(pixels.chunks(), pixels.shape)
        if isinstance(pixels, Permuted):
            back = np.argsort(pixels.order)
            axes, chunks = tuple(axes[k] for k in back), tuple(chunks[k] for k in back)
            pixels = pixels.inner
        depth = pixels.ndim - pixels.frame_ndim
        if not pixels.frame_ndim or any(len(sizes) > 1 for sizes in chunks[depth:]):
            return None
        return cls(pixels, axes, chunks)

    @property
    def navigation(self) -> tuple[Hashable, ...]:
        """Axes that count frames."""
        return self.axes[: self.pixels.ndim - self.pixels.frame_ndim]

    @property
    def frame(self) -> tuple[Hashable, ...]:
        """Axes of a frame."""
        return self.axes[self.pixels.ndim - self.pixels.frame_ndim :]

    @property
    def reducible(self) -> tuple[set[Hashable], ...]:
        """Sets of axes over which a reduction is fused with reading."""
        return set(self.navigation), set(self.frame), set(self.axes)

    @property
    def cuts(self) -> tuple[tuple[int, ...], ...]:
        """Chunks along the navigation axes."""
        return self.chunks[: len(self.navigation)]


@xr.register_dataarray_accessor("emio")
class ImageAccessor:
    """Reductions of an image, done while it is read."""

    def __init__(self, image: xr.DataArray):
        self._image = image

    def sum(self, dims: Dims = None, *, skipna: bool | None = None) -> xr.DataArray:
        """Sum over axes, as `xarray.DataArray.sum`.

        Parameters
        ----------
        dims
            Names of axes; default: all. Sums over all navigation axes, or over all axes of a frame, are fused with
            reading.
        skipna
            Whether floats that are not numbers are left out; default: they are.

        Returns
        -------
        xarray.DataArray
            Lazy; integers become 64 bits wide.

        Examples
        --------
        >>> from intake_emio import imload
        >>> from intake_emio.cli.demo import small_scan
        >>> ds = imload(small_scan())
        >>> ds.image.emio.sum("vu").equals(ds.image.sum(("v", "u")))
        True
        """
        return self._reduced(dims, skipna, mean=False)

    def mean(self, dims: Dims = None, *, skipna: bool | None = None) -> xr.DataArray:
        """Mean over axes, as `xarray.DataArray.mean`; see `sum`.

        Examples
        --------
        >>> from intake_emio import imload
        >>> from intake_emio.cli.demo import small_scan
        >>> imload(small_scan()).image.emio.mean("yx").dims
        ('v', 'u')
        """
        return self._reduced(dims, skipna, mean=True)

    def dot(self, masks: Any) -> xr.DataArray:
        """Multiply each frame with one mask or a stack of masks, and sum.

        Parameters
        ----------
        masks
            DataArray with the axes of a frame and perhaps one more, which counts masks; or an array of the frame's
            shape, or with one more axis in front, which is called ``mask``. Kept in memory.

        Returns
        -------
        xarray.DataArray
            Lazy; navigation axes, then that of the masks. Float64; float32 for masks of float32 and pixels of float32
            or at most 16 bits; int64 where both are integers, then exact up to 2**53.

        Raises
        ------
        ArgumentError
            If the masks' shape is not the frame's.

        Examples
        --------
        >>> import numpy as np
        >>> from intake_emio import imload
        >>> from intake_emio.cli.demo import small_scan
        >>> imload(small_scan()).image.emio.dot(np.ones((3, 32, 32), "f4")).dims
        ('y', 'x', 'mask')
        """
        frames = FrameImage.behind(self._image)
        axes = frames.frame if frames else self._image.dims[-2:]
        labelled, extra = self._masks(masks, axes)
        dtype = _dot_type(labelled.dtype, self._image.dtype)
        working = labelled.astype("f4" if dtype == np.float32 else "f8")
        if frames is None:
            wide = self._image.astype("f8") if dtype.kind in "iu" else self._image
            return xr.dot(wide, working, dim=axes).astype(dtype)
        stack = working.transpose(extra, *axes) if extra is not None else working.transpose(*axes).expand_dims(MASK)
        data = lazy_dots(frames.pixels, frames.cuts, stack.values).astype(dtype)
        names = (*frames.navigation, extra if extra is not None else MASK)
        result = self._labelled(data, names, {extra: labelled.coords[extra]} if extra in labelled.coords else {})
        return result if extra is not None else result.isel({MASK: 0})

    def load(self) -> xr.DataArray:
        """Load the image into memory, in parallel and straight into place, faster than `DataArray.load`."""
        pixels = pixels_behind(self._image.variable)
        return self._image.copy(data=load(pixels)) if pixels is not None else self._image.load()

    def _reduced(self, dims: Dims, skipna: bool | None, mean: bool) -> xr.DataArray:
        image = self._image
        wanted = set(image.dims if dims is None else list(dims))
        unknown = wanted - set(image.dims)
        if unknown:
            raise ArgumentError(f"there is no axis {min(map(str, unknown))!r}, only {image.dims}")
        frames = FrameImage.behind(image)
        fused = frames is not None and frames.navigation and wanted in frames.reducible
        wraps = mean and image.dtype.kind in "iu" and image.dtype.itemsize == 8  # sums of 64 bit integers may
        if frames is None or not fused or wraps:
            return (image.mean if mean else image.sum)(sorted(wanted, key=image.dims.index), skipna=skipna)
        counted = image.dtype.kind in "fc" and skipna is not False
        count = math.prod(image.sizes[d] for d in wanted)
        divided = mean and not counted and wanted == set(frames.navigation)
        if wanted == set(frames.navigation):
            data = lazy_sum(frames.pixels, frames.cuts, counted, divide=count if divided else None)
            names = frames.frame
        else:
            data, names = lazy_totals(frames.pixels, frames.cuts, counted), frames.navigation
            if len(wanted) == image.ndim:
                data, names = data.sum(tuple(range(len(names)))), ()
        kept = image.dtype if image.dtype.kind in "fc" else np.dtype("f8") if mean else sum_type(image.dtype)
        if not mean:
            data = data[..., 0] if counted else data
        elif counted:
            data = data[..., 0] / data[..., 1]
        elif not divided:
            data = data / count
        return self._labelled(data.astype(kept), names).transpose(*(d for d in image.dims if d in names))

    def _labelled(self, data: Any, names: Sequence[Hashable], coords: Any = None) -> xr.DataArray:
        """Return an array with those coordinates of the image that still fit."""
        image = self._image
        kept = {name: c for name, c in image.coords.items() if set(c.dims) <= set(names)}
        attrs = image.attrs if xr.get_options()["keep_attrs"] is True else {}
        return xr.DataArray(data, {**kept, **(coords or {})}, tuple(names), image.name, attrs)

    def _masks(self, masks: Any, axes: Sequence[Hashable]) -> tuple[xr.DataArray, Hashable | None]:
        """Return labelled masks, and the name of the axis that counts them, if there is one."""
        shape = tuple(self._image.sizes[a] for a in axes)
        if not isinstance(masks, xr.DataArray):
            values = np.asarray(masks)
            names = (*axes,) if values.ndim == len(axes) else (MASK, *axes)
            if values.ndim != len(names):
                raise ArgumentError(f"masks of shape {values.shape} do not fit frames of shape {shape}")
            masks = xr.DataArray(values, dims=names)
        extra = [d for d in masks.dims if d not in axes]
        if len(extra) > 1 or any(masks.sizes.get(a) != n for a, n in zip(axes, shape, strict=True)):
            raise ArgumentError(f"masks {dict(masks.sizes)} do not fit frames {dict(zip(axes, shape, strict=True))}")
        return masks.drop_vars([c for c in masks.coords if c not in extra]), extra[0] if extra else None


def _dot_type(mask: np.dtype, pixel: np.dtype) -> np.dtype:
    if mask.kind in "biu" and pixel.kind in "biu":
        return np.dtype("i8")
    narrow = mask in (np.float32, np.float16) and (pixel.itemsize <= 2 or pixel == np.float32)
    return np.dtype("f4" if narrow else "f8")


@xr.register_dataset_accessor("emio")
class DatasetAccessor:
    """Virtual detectors and regions of interest of a Dataset from `imload`."""

    def __init__(self, dataset: xr.Dataset):
        self._dataset = dataset

    @property
    def _image(self) -> xr.DataArray:
        return self._dataset["image"]

    @property
    def _frame_axes(self) -> tuple[Hashable, Hashable]:
        frames = FrameImage.behind(self._image)
        axes = frames.frame if frames is not None else self._image.dims
        if len(axes) < 2:
            raise ArgumentError(f"frames have the axes {axes}: a virtual detector needs two")
        rows, columns = (d for d in self._image.dims if d in axes[-2:])
        return rows, columns

    def detector(
        self,
        radius: float | None = None,
        inner_radius: float = 0.0,
        center: tuple[float, float] | None = None,
    ) -> xr.DataArray:
        """Return a virtual detector: a disk or a ring.

        Parameters
        ----------
        radius
            Of the disk, or the outer one of the ring; in the units of the detector's coordinates, or pixels if it has
            none. Default: everything outside `inner_radius`.
        inner_radius
            Of the ring.
        center
            (row, column) in the same units; default: the middle of the detector.

        Returns
        -------
        xarray.DataArray
            Float32, 1 where the detector is.
        """
        rows, columns = self._frame_axes
        v, u = self._positions(rows), self._positions(columns)
        v0, u0 = center if center is not None else (float(v.mean()), float(u.mean()))
        distance = np.hypot(v - v0, u - u0)
        inside = (distance >= inner_radius) & (distance <= (np.inf if radius is None else radius))
        return xr.DataArray(inside, name="detector").astype("f4")

    def virtual_image(
        self,
        mask: Any = None,
        *,
        radius: float | None = None,
        inner_radius: float = 0.0,
        center: tuple[float, float] | None = None,
    ) -> xr.DataArray:
        """Sum what falls onto a virtual detector, at each scan point.

        Parameters
        ----------
        mask
            Weights of the detector's pixels, or a stack of them; see `ImageAccessor.dot`. Otherwise a disk or ring:
        radius, inner_radius, center
            See `detector`.

        Returns
        -------
        xarray.DataArray
            Lazy; axes and coordinates of the scan.

        Examples
        --------
        >>> from intake_emio import imload
        >>> from intake_emio.cli.demo import small_scan
        >>> ds = imload(small_scan())
        >>> ds.emio.virtual_image(radius=0.3).dims      # bright field: a disk of 0.3 cm
        ('y', 'x')
        """
        detector = self.detector(radius, inner_radius, center) if mask is None else mask
        return self._image.emio.dot(detector).rename("virtual_image")

    def center_of_mass(self, mask: Any = None) -> xr.Dataset:
        """Centre of mass of each frame.

        Parameters
        ----------
        mask
            Weights of the detector's pixels.

        Returns
        -------
        xarray.Dataset
            Lazy; variables ``com_<axis>`` for both detector axes, in the units of their coordinates or in pixels;
            not a number where a frame is empty.

        Examples
        --------
        >>> from intake_emio import imload
        >>> from intake_emio.cli.demo import small_scan
        >>> list(imload(small_scan()).emio.center_of_mass())
        ['com_v', 'com_u']
        """
        rows, columns = self._frame_axes
        one = xr.ones_like(self._positions(rows) + self._positions(columns), dtype="f8")
        weight = one if mask is None else one * self._image.emio._masks(mask, (rows, columns))[0]
        positions = {axis: self._positions(axis) for axis in (rows, columns)}
        middle = {axis: float(where.mean()) for axis, where in positions.items()}
        shifted = [weight * (positions[axis] - middle[axis]) for axis in (rows, columns)]
        stack = xr.concat([weight, *shifted], MASK, coords="minimal", compat="override").transpose(MASK, rows, columns)
        products = self._image.emio.dot(stack.astype("f8"))
        total = products.isel({MASK: 0})
        found = {}
        for number, axis in enumerate((rows, columns), 1):
            centre = (products.isel({MASK: number}) / total.where(total != 0) + middle[axis]).rename(f"com_{axis}")
            units = units_of(self._image, str(axis))
            centre.attrs = {"units": units} if units else {}
            found[f"com_{axis}"] = centre
        return xr.Dataset(found)

    def frames(self, roi: Any) -> xr.DataArray:
        """Only the frames of a region of interest; no other one is read.

        Parameters
        ----------
        roi
            Boolean array over the scan, True where a frame is wanted.

        Returns
        -------
        xarray.DataArray
            Lazy; axis ``i`` counts the frames in scan order, with the coordinates of the scan along it.

        Raises
        ------
        ArgumentError
            If the shape of `roi` is not the scan's.

        Examples
        --------
        >>> from intake_emio import imload
        >>> from intake_emio.cli.demo import small_scan
        >>> ds = imload(small_scan())
        >>> ds.emio.frames(ds.navigator > 200).dims
        ('i', 'v', 'u')
        """
        from .frames.lazy import lazy
        from .frames.picked import Picked

        image = self._image
        frames = FrameImage.behind(image)
        frame = frames.frame if frames is not None else image.dims[-2:]
        scan = tuple(d for d in image.dims if d not in frame)
        shape = tuple(image.sizes[d] for d in scan)
        region = arguments.region(roi, shape)
        points = np.nonzero(region)
        if frames is None or frames.navigation != scan:
            index = {d: xr.DataArray(where, dims="i") for d, where in zip(scan, points, strict=True)}
            return image.isel(index)
        picked = Picked(frames.pixels, np.ravel_multi_index(points, shape))
        coords: dict[Hashable, Any] = {d: c for d, c in image.coords.items() if set(c.dims) <= set(frame)}
        for d, where in zip(scan, points, strict=True):
            if d in image.coords:
                coords[d] = ("i", image.coords[d].values[where], image.coords[d].attrs)
        return xr.DataArray(lazy(picked), coords, ("i", *frames.frame), image.name, image.attrs)

    def load(self) -> xr.Dataset:
        """Load all variables into memory, in parallel and straight into place, faster than `Dataset.load`."""
        return self._dataset.assign({name: v.emio.load() for name, v in self._dataset.data_vars.items()})

    def _positions(self, axis: Hashable) -> xr.DataArray:
        """Coordinates of a detector axis, or pixel numbers."""
        if axis in self._image.coords:
            return self._image.coords[axis].drop_vars(axis)
        return xr.DataArray(np.arange(self._image.sizes[axis], dtype="f8"), dims=(axis,))
