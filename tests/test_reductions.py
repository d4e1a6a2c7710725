"""Fused reductions give what plain NumPy gives, on any layout, and what plain xarray gives, on any image."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import intake_emio as emio
from intake_emio.errors import ArgumentError
from intake_emio.frames.decoders import Folded, FourQuarters, ReversedWords
from intake_emio.frames.frames import Frames
from intake_emio.frames.layout import FrameStack
from intake_emio.frames.lazy import lazy
from intake_emio.frames.navigation import Navigation
from intake_emio.frames.pixels import whole
from intake_emio.frames.reduced import FrameTotals, Reduction
from tests.encoders.blo import write_blo
from tests.encoders.raw import write_raw
from tests.test_frames import layouts, quick, with_storage, written


def labelled(frames, chunks=None):
    from intake_emio import accessor  # noqa: F401

    return xr.DataArray(lazy(frames, chunks), dims=tuple("yxvu"), name="image")


def exact(expected):
    """Sums in the widest type."""
    wide = {"u": "u8", "b": "i8", "i": "i8", "f": "f8", "c": "c16"}[expected.dtype.kind]
    return expected.astype(wide)


@quick
@given(layout=layouts(), rows=st.integers(1, 4), backend=st.sampled_from(["mmap", "buffered"]))
def test_sums_over_scan_and_detector_equal_numpys(layout, rows, backend, tmp_path_factory):
    frames, expected = written(layout, tmp_path_factory.mktemp("sums"))
    image = labelled(with_storage(frames, backend), (rows, -1, -1, -1))
    for dims, axes in (("yx", (0, 1)), ("vu", (2, 3)), ("yxvu", (0, 1, 2, 3))):
        got = image.emio.sum(dims)
        want = exact(expected).sum(axes)
        assert got.dims == tuple(d for d in "yxvu" if d not in dims)
        np.testing.assert_allclose(got.values, want.astype(got.dtype), rtol=1e-3 if expected.dtype == "f2" else 1e-6)
        if expected.dtype.kind in "uib":
            np.testing.assert_array_equal(got.values, want)
        mean = image.emio.mean(dims)
        np.testing.assert_allclose(
            mean.values, exact(expected).mean(axes), rtol=2e-3 if expected.dtype == "f2" else 1e-6
        )


@quick
@given(layout=layouts(), number=st.integers(1, 3), kind=st.sampled_from(["f4", "f8", "i8", "?"]))
def test_products_with_masks_equal_numpys(layout, number, kind, tmp_path_factory):
    frames, expected = written(layout, tmp_path_factory.mktemp("dots"))
    if expected.dtype.kind == "c" or expected.dtype == "u8":
        return
    small = expected
    masks = np.random.default_rng(5).integers(0, 3, (number, *expected.shape[2:])).astype(kind)
    got = labelled(frames, (2, -1, -1, -1)).emio.dot(masks)
    want = np.einsum("yxvu,kvu->yxk", small.astype("f8"), masks.astype("f8"))
    assert got.dims == ("y", "x", "mask")
    np.testing.assert_allclose(got.values, want, rtol=1e-5, atol=1e-5 * max(1, np.abs(small.astype("f8")).max()))


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i2", ">i2", "<u4"])
def test_full_scale_pixels_never_overflow(tmp_path, dtype):
    frames = np.full((1, 2, 3), np.iinfo(dtype).max, dtype)
    path = write_raw(tmp_path / "full.bin", np.broadcast_to(frames, (140_000, 2, 3)))
    image = emio.imload(path, dtype=dtype, sig_shape=(2, 3), chunks={"i": -1}).image
    assert (image.emio.sum("i").values == 140_000 * np.iinfo(dtype).max).all()


def test_full_scale_negative_pixels_never_overflow(tmp_path):
    frames = np.full((1, 2, 3), -32768, "<i2")
    path = write_raw(tmp_path / "full.bin", np.broadcast_to(frames, (140_000, 2, 3)))
    image = emio.imload(path, dtype="<i2", sig_shape=(2, 3), chunks={"i": -1}).image
    assert (image.emio.sum("i").values == -32768 * 140_000).all()


@pytest.fixture
def scan(tmp_path):
    patterns = np.random.default_rng(2).integers(0, 200, (5, 6, 12, 12), dtype="u1")
    path = write_blo(tmp_path / "scan.blo", patterns, steps=(2.0, 1.5), pixels_per_cm_x100=1000)
    return emio.imload(path), patterns


@pytest.mark.parametrize("dims", ["yx", "vu", "yxvu", "y", "xv", "u", None])
@pytest.mark.parametrize("what", ["sum", "mean"])
def test_any_axes_give_what_xarray_gives_labels_included(scan, dims, what):
    dataset, _ = scan
    got = getattr(dataset.image.emio, what)(dims)
    plain = getattr(dataset.image, what)(list(dims) if dims else None)
    xr.testing.assert_allclose(got, plain)
    assert got.dtype == plain.dtype
    assert got.dims == plain.dims


@pytest.mark.parametrize("order", ["vuyx", "uxvy"])
def test_the_order_of_axes_does_not_matter(scan, order, tmp_path):
    dataset, patterns = scan
    turned = emio.imload(dataset.attrs["uri"], output_axis_order=order).image
    for dims in ("yx", "vu"):
        xr.testing.assert_allclose(turned.emio.sum(dims), turned.sum(list(dims)))
    masks = np.random.default_rng(0).random((2, 12, 12))
    labelled_masks = xr.DataArray(masks, dims=("k", "v", "u"))
    np.testing.assert_allclose(
        turned.emio.dot(labelled_masks).transpose("y", "x", "k").values, np.einsum("yxvu,kvu->yxk", patterns, masks)
    )


def test_an_image_that_is_no_frames_any_more_gives_equal_results(scan):
    dataset, patterns = scan
    shifted = dataset.image[1:4] + 1
    mask = np.random.default_rng(0).random((12, 12)).astype("f4")
    np.testing.assert_allclose(shifted.emio.mean("yx").values, (patterns[1:4] + 1.0).mean((0, 1)))
    np.testing.assert_allclose(shifted.emio.dot(mask).values, ((patterns[1:4] + 1.0) * mask).sum((2, 3)), rtol=1e-5)
    in_memory = dataset.image.load()
    np.testing.assert_array_equal(in_memory.emio.sum("vu").values, patterns.sum((2, 3), dtype="u8"))


def test_fresh_images_are_reduced_while_they_are_read(scan):
    dataset, _ = scan
    graph = dataset.image.emio.sum("vu").data.dask
    found = [v for layer in graph.layers.values() for v, _ in getattr(layer, "indices", ()) if isinstance(v, Reduction)]
    assert [type(v) for v in found] == [FrameTotals]


def test_what_is_not_a_number_is_skipped_as_xarray_does(tmp_path):
    frames = np.random.default_rng(4).random((6, 4, 5)).astype("f4")
    frames[0, 1, 2] = frames[3, 1, 2] = frames[2, 0, 0] = np.nan
    frames[:, 3, 3] = np.nan
    path = write_raw(tmp_path / "nan.bin", frames)
    image = emio.imload(path, dtype="f4", sig_shape=(4, 5)).image
    for dims in ("i", "yx"):
        for what in ("sum", "mean"):
            with np.errstate(all="ignore"):
                xr.testing.assert_allclose(
                    getattr(image.emio, what)(dims).compute(), getattr(image, what)(list(dims)).compute()
                )
    assert np.isnan(image.emio.sum("i", skipna=False).values[1, 2])


def test_a_boolean_mask_counts_exactly(scan):
    dataset, patterns = scan
    mask = np.random.default_rng(0).random((12, 12)) < 0.5
    got = dataset.image.emio.dot(mask)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got.values, patterns[..., mask].sum(-1, dtype="i8"))


@pytest.mark.parametrize("masks", [np.ones((3, 3)), np.ones((2, 2, 12, 12)), np.ones(12)])
def test_masks_of_another_shape_are_refused(scan, masks):
    with pytest.raises(ArgumentError, match="do not fit frames"):
        scan[0].image.emio.dot(masks)


def test_an_axis_that_does_not_exist_is_refused(scan):
    with pytest.raises(ArgumentError, match="no axis 'z'"):
        scan[0].image.emio.sum("z")


def test_a_virtual_image_is_the_sum_within_a_ring_in_the_detectors_units(scan):
    dataset, patterns = scan
    v = u = np.arange(12) * 0.1  # 10 pixels per cm
    distance = np.hypot(v[:, None] - v.mean(), u - u.mean())
    ring = (distance >= 0.2) & (distance <= 0.45)
    got = dataset.emio.virtual_image(radius=0.45, inner_radius=0.2)
    np.testing.assert_allclose(got.values, patterns[..., ring].sum(-1), rtol=1e-6)
    assert got.coords["y"].attrs["units"] == "nm"
    assert got.name == "virtual_image"


def test_the_centre_of_mass_is_in_the_detectors_units(scan):
    dataset, patterns = scan
    position = np.arange(12) * 0.1
    weight = patterns.astype("f8")
    got = dataset.emio.center_of_mass()
    total = weight.sum((2, 3))
    np.testing.assert_allclose(got.com_v.values, (weight * position[:, None]).sum((2, 3)) / total)
    np.testing.assert_allclose(got.com_u.values, (weight * position).sum((2, 3)) / total)
    assert got.com_v.attrs["units"] == "cm"


def test_the_centre_of_an_empty_frame_is_not_a_number(tmp_path):
    frames = np.zeros((2, 4, 4), "u2")
    frames[1, 1, 2] = 7
    path = write_raw(tmp_path / "empty.bin", frames)
    got = emio.imload(path, dtype="u2", sig_shape=(4, 4), nav_shape=(1, 2)).emio.center_of_mass()
    assert np.isnan(got.com_v.values[0, 0])
    assert (got.com_v.values[0, 1], got.com_u.values[0, 1]) == (1.0, 2.0)


def test_loading_in_place_equals_loading_through_dask(scan):
    dataset, _ = scan
    xr.testing.assert_identical(dataset.emio.load(), dataset.compute())


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("decoder", "shape"),
    [
        (ReversedWords(1), (4, 64)),
        (ReversedWords(8), (6, 16)),
        (ReversedWords(16), (300, 16)),
        (FourQuarters(ReversedWords(8)), (4, 32)),
        (FourQuarters(ReversedWords(16)), (4, 16)),
        (FourQuarters(ReversedWords(16), gap=2), (6, 18)),
        (Folded(np.dtype("<u2"), 3, 10), (6, 5)),
        (Folded(np.dtype(">u2"), 3, 10, repeat=2), (12, 5)),
    ],
)
def test_packed_frames_are_reduced_as_if_they_were_decoded(tmp_path, decoder, shape, flip):
    random = np.random.default_rng(6)
    stored = random.integers(0, 256, (7, decoder.stored_bytes(shape)), dtype="u1")
    path = write_raw(tmp_path / "packed.bin", stored, file_header=b"x" * 5, frame_header=3)
    stack = FrameStack.in_one_file(str(path), "u1", shape, 7, offset=5, frame_header=3, flip=flip, decoder=decoder)
    frames = Frames(stack, Navigation.of((2, 4)))
    decoded = frames.read(whole(frames.shape)).astype("i8")
    image = labelled(frames, (1, -1, -1, -1))
    masks = random.random((3, *shape))
    np.testing.assert_array_equal(image.emio.sum("yx").values, decoded.sum((0, 1)))
    np.testing.assert_array_equal(image.emio.sum("vu").values, decoded.sum((2, 3)))
    np.testing.assert_allclose(image.emio.dot(masks).values, np.einsum("yxvu,kvu->yxk", decoded, masks))
