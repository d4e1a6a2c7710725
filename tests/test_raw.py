"""Reading headerless raw binary files."""

import os
import pickle
import sys

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import intake_emio as emio
from intake_emio.errors import (
    ArgumentError,
    EmioError,
    HeaderError,
    MissingFileError,
    StorageError,
    TruncatedError,
    UnknownFormatError,
)
from intake_emio.formats.raw import RawSource

from .encoders.blo import write_blo
from .encoders.raw import write_raw


def frames(count=6, shape=(3, 4), dtype="<u2"):
    """Random bytes as pixels, finite ones."""
    dtype = np.dtype(dtype)
    random = np.random.default_rng(3)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return random.integers(
            info.min, info.max, (count, *shape), endpoint=True, dtype=dtype.newbyteorder("=")
        ).astype(dtype)
    values = random.normal(size=(count, *shape)) * 100
    return (values + 1j * values[::-1] if dtype.kind == "c" else values).astype(dtype)


def numbered(path, count=4, **extra):
    """Write 1 x 1 frames of one byte: 1, 2, 3 ..."""
    return write_raw(path, np.arange(1, count + 1, dtype="u1").reshape(-1, 1, 1), **extra)


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "frames.raw"


# Layout --------------------------------------------------------------------------------------------------------------

WORKED = bytes.fromhex("AA BB CC   01  00 05 01 00  EE EE   02  FF FF 00 07  EE EE")
AS_WORKED = {"dtype": ">u2", "sig_shape": (1, 2), "file_header": 3, "frame_header": 1, "frame_footer": 2}


def test_the_file_worked_by_hand_is_read(raw):
    raw.write_bytes(WORKED)
    image = emio.imload(raw, **AS_WORKED).image
    assert image.dims == ("i", "y", "x")
    assert image.dtype == np.uint16
    assert image.values.tolist() == [[[5, 256]], [[65535, 7]]]


def test_the_last_footer_may_be_missing(raw):
    raw.write_bytes(WORKED[:-2])
    assert emio.imload(raw, **AS_WORKED).image.values.tolist() == [[[5, 256]], [[65535, 7]]]


@pytest.mark.parametrize("chunks", [None, "auto", "frame"])
@pytest.mark.parametrize("io_backend", [None, "mmap", "buffered", "direct"])
def test_all_ways_to_the_disk_read_the_same(raw, io_backend, chunks):
    stored = frames(20, (5, 7), ">i2")
    write_raw(raw, stored, file_header=b"abc", frame_header=5, frame_footer=3)
    arguments = {"dtype": ">i2", "sig_shape": (5, 7), "file_header": 3, "frame_header": 5, "frame_footer": 3}
    try:
        image = emio.imload(raw, **arguments, chunks=chunks, io_backend=io_backend).image.compute()
    except StorageError as error:
        if "file system cannot do direct reads" not in str(error):
            raise
        pytest.skip(str(error))
    np.testing.assert_array_equal(image, stored)


@given(
    count=st.integers(1, 5),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    dtype=st.sampled_from(["u1", "<u2", ">u4", "<f4", ">c8"]),
    extras=st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    last_footer=st.booleans(),
)
def test_any_headers_and_footers_are_skipped(tmp_path_factory, count, shape, dtype, extras, last_footer):
    path = tmp_path_factory.getbasetemp() / "any.raw"
    stored = frames(count, shape, dtype)
    before, header, footer = extras
    random = np.random.default_rng(8)
    write_raw(
        path,
        stored,
        file_header=b"\xff" * before,
        frame_header=random.integers(0, 256, (count, header), "u1"),
        frame_footer=random.integers(0, 256, (count, footer), "u1"),
        last_footer=last_footer or not footer,
    )
    image = emio.imload(
        path, dtype=dtype, sig_shape=shape, file_header=before, frame_header=header, frame_footer=footer
    ).image
    np.testing.assert_array_equal(image, stored if count > 1 else stored[0])


def test_a_remote_file_reads_as_a_local_one(raw):
    fsspec = pytest.importorskip("fsspec")
    stored = frames()
    write_raw(raw, stored, frame_header=4)
    with fsspec.open("memory://raw/frames.raw", "wb") as file:
        file.write(raw.read_bytes())
    image = emio.imload("memory://raw/frames.raw", dtype="<u2", sig_shape=(3, 4), frame_header=4).image
    np.testing.assert_array_equal(image, stored)


# Detection -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.raw", "a.bin", "a.dat", "a.xyz", "a"])
def test_dtype_and_sig_shape_make_any_unknown_file_raw(tmp_path, name):
    path = write_raw(tmp_path / name, frames())
    ds = emio.imload(path, dtype="<u2", sig_shape=(3, 4))
    assert ds.attrs["format"] == "raw"
    np.testing.assert_array_equal(ds.image, frames())


@pytest.mark.parametrize("name", ["a.raw", "a.bin", "a.dat"])
def test_without_arguments_the_error_names_them_and_frames_that_would_fit(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"")
    os.truncate(path, 33_554_432)
    with pytest.raises(UnknownFormatError, match=r"dtype=.*sig_shape=.*256 frames of 256 x 256 uint16") as error:
        emio.imload(path)
    assert str(path) in str(error.value)


def test_a_file_recognised_by_content_is_raw_only_if_asked_for(tmp_path):
    path = write_blo(tmp_path / "scan.raw", np.zeros((1, 1, 4, 4), "u1"))
    with pytest.raises(TypeError, match="'dtype'"):
        emio.imload(path, dtype="u1", sig_shape=(2, 2))
    size = path.stat().st_size
    ds = emio.imload(path, format="raw", dtype="u1", sig_shape=(size,))
    assert ds.attrs["format"] == "raw"
    assert ds.image.values[:6].tobytes() == b"IMGBLO"


# Shapes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "sig_shape", "nav_shape", "dims"),
    [
        (1, (3, 4), None, "yx"),
        (6, (3, 4), None, "iyx"),
        (6, (3, 4), (6,), "iyx"),
        (6, (3, 4), 6, "iyx"),
        (6, (3, 4), (2, 3), "yxvu"),
        (6, (3, 4), [3, "2"], "yxvu"),
        (6, (3, 4), "(1, 2, 3)", "iyxvu"),
        (1, (12,), None, "x"),
        (6, (12,), None, "iu"),
        (6, (12,), (2, 3), "yxu"),
        (1, (2, 2, 3), None, "cyx"),
        (6, (2, 2, 3), None, "icyx"),
        (6, (2, 2, 3), (3, 2), "yxcvu"),
        (1, (3, 4), (1, 1), "yxvu"),
        (1, (3, 4), (1,), "iyx"),
    ],
)
def test_axes_are_named_by_their_number(raw, count, sig_shape, nav_shape, dims):
    stored = frames(count, (3, 4))
    write_raw(raw, stored)
    image = emio.imload(raw, dtype="<u2", sig_shape=sig_shape, nav_shape=nav_shape).image
    assert "".join(image.dims) == dims
    np.testing.assert_array_equal(image.values.ravel(), stored.ravel())
    assert not image.coords


def test_metadata_name_and_calibrate_the_axes(raw):
    write_raw(raw, frames())
    image = emio.imload(
        raw,
        dtype="<u2",
        sig_shape=(3, 4),
        metadata={"axes": "tyx", "spacing": {"t": 0.5}, "spacing_units": {"t": "s"}},
    ).image
    assert image.dims == ("t", "y", "x")
    assert image.t.values.tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
    assert image.t.attrs["units"] == "s"


@pytest.mark.parametrize(
    ("sig_shape", "nav_shape", "axes"), [((2, 1, 3, 2), None, "tczyx"), ((3, 4), (1, 1, 1, 2, 3), "abcdefg")]
)
def test_axes_that_have_no_default_names_are_named_by_metadata(raw, sig_shape, nav_shape, axes):
    stored = frames()
    write_raw(raw, stored)
    arguments = {"dtype": "<u2", "sig_shape": sig_shape, "nav_shape": nav_shape}
    with pytest.raises(ArgumentError, match=r'metadata=\{"axes"'):
        emio.imload(raw, **arguments)
    image = emio.imload(raw, **arguments, metadata={"axes": axes}).image
    assert "".join(image.dims) == axes
    np.testing.assert_array_equal(image.values.ravel(), stored.ravel())


def test_any_frame_that_divides_the_file_is_allowed(raw):
    stored = frames(64, (8, 8))
    write_raw(raw, stored)
    image = emio.imload(raw, dtype="<u2", sig_shape=(4, 4)).image
    np.testing.assert_array_equal(image, stored.reshape(256, 4, 4))


def test_fewer_points_than_frames_are_the_first_ones(raw):
    numbered(raw, 7)
    assert emio.imload(raw, dtype="u1", sig_shape=(1, 1), nav_shape=(2, 2)).image.values.ravel().tolist() == [
        1,
        2,
        3,
        4,
    ]


def test_more_points_than_frames_are_blank_and_counted(raw):
    numbered(raw, 4)
    with pytest.warns(emio.EmioWarning, match=r"frames\.raw: 2 of 6 frames"):
        image = emio.imload(raw, dtype="u1", sig_shape=(1, 1), nav_shape=(2, 3)).image
    assert image.values.ravel().tolist() == [1, 2, 3, 4, 0, 0]


@pytest.mark.parametrize("rest", [1, 2, 3])
def test_with_nav_shape_a_rest_smaller_than_a_frame_is_ignored(raw, rest):
    stored = frames(4, (1, 2))
    write_raw(raw, stored, trailing=b"\xff" * rest)
    image = emio.imload(raw, dtype="<u2", sig_shape=(1, 2), nav_shape=(2, 2)).image
    np.testing.assert_array_equal(image.values.reshape(4, 1, 2), stored)


@pytest.mark.parametrize(("trailing", "rest"), [(1, 1), (9, 9), (10, 0)])
def test_without_nav_shape_the_file_must_be_whole_frames(raw, trailing, rest):
    write_raw(raw, frames(4, (1, 3)), frame_header=4, trailing=b"\xff" * trailing)
    arguments = {"dtype": "<u2", "sig_shape": (1, 3), "frame_header": 4}
    if rest:
        with pytest.raises(HeaderError, match=rf"{40 + trailing} bytes.* 10 bytes.*4 frames, {rest} bytes left over"):
            emio.imload(raw, **arguments)
    else:
        assert emio.imload(raw, **arguments).image.shape == (5, 1, 3)


def test_a_growing_file_shows_what_is_there_when_it_is_opened(raw):
    numbered(raw, 3)
    assert emio.imload(raw, dtype="u1", sig_shape=(1, 1)).image.values.ravel().tolist() == [1, 2, 3]
    numbered(raw, 5)
    assert emio.imload(raw, dtype="u1", sig_shape=(1, 1)).image.values.ravel().tolist() == [1, 2, 3, 4, 5]


# Sync offset ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "nav_shape", "expected"),
    [
        (1, (2, 2), [2, 3, 4, 0]),
        (-1, (2, 2), [0, 1, 2, 3]),
        (3, (2, 2), [4, 0, 0, 0]),
        (-3, (2, 2), [0, 0, 0, 1]),
        (1, (2,), [2, 3]),
        (-1, (2,), [0, 1]),
        (1, None, [2, 3, 4]),
        (3, None, [4]),
        (-1, None, [0, 1, 2, 3, 4]),
        (-3, None, [0, 0, 0, 1, 2, 3, 4]),
    ],
)
def test_sync_offset_skips_frames_or_inserts_blank_ones(raw, offset, nav_shape, expected):
    numbered(raw, 4)
    image = emio.imload(raw, dtype="u1", sig_shape=(1, 1), nav_shape=nav_shape, sync_offset=offset).image
    assert image.values.ravel().tolist() == expected
    assert image.ndim == (4 if nav_shape == (2, 2) else 3)


@pytest.mark.parametrize("offset", [4, -4, 5, 10**20])
@pytest.mark.parametrize("nav_shape", [None, (2, 2), (10, 10)])
@pytest.mark.filterwarnings("ignore::intake_emio.errors.EmioWarning")
def test_a_sync_offset_over_all_frames_is_refused(raw, offset, nav_shape):
    numbered(raw, 4)
    with pytest.raises(ArgumentError, match=rf"frames\.raw.*sync_offset={offset}"):
        emio.imload(raw, dtype="u1", sig_shape=(1, 1), nav_shape=nav_shape, sync_offset=offset)


# Pixel types ---------------------------------------------------------------------------------------------------------

NUMBERS = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", NUMBERS)
def test_every_number_type_is_read_in_native_order(raw, kind, order):
    stored = frames(dtype=order + kind)
    write_raw(raw, stored)
    for dtype in (order + kind, np.dtype(order + kind)):
        image = emio.imload(raw, dtype=dtype, sig_shape=(3, 4)).image
        assert image.dtype == np.dtype(kind)
        assert image.dtype.isnative
        np.testing.assert_array_equal(image, stored)


@pytest.mark.parametrize("spelling", ["uint16", "u2", "H", "=u2", np.uint16, np.dtype("uint16"), "ushort"])
def test_a_type_may_be_spelled_in_any_way_numpy_knows(raw, spelling):
    stored = frames(dtype="=u2")
    write_raw(raw, stored)
    np.testing.assert_array_equal(emio.imload(raw, dtype=spelling, sig_shape=(3, 4)).image, stored)


@pytest.mark.parametrize(
    ("dtype", "endianess"),
    [("uint16", ">"), (np.uint16, ">"), ("u2", ">"), (">u2", ">"), (">u2", None), (np.dtype(">u2"), ">")],
)
def test_endianess_sets_the_byte_order_that_the_type_leaves_open(raw, dtype, endianess):
    raw.write_bytes(bytes.fromhex("00 05 01 00"))
    image = emio.imload(raw, dtype=dtype, endianess=endianess, sig_shape=(1, 2)).image
    assert image.values.tolist() == [[5, 256]]
    assert image.dtype == np.dtype("=u2")


@pytest.mark.parametrize(("dtype", "endianess"), [(">u2", "<"), ("<u2", ">"), (np.dtype(">f4"), "<"), ("<c8", ">")])
def test_a_byte_order_that_contradicts_the_type_is_refused(raw, dtype, endianess):
    write_raw(raw, frames())
    with pytest.raises(ArgumentError, match="contradict"):
        emio.imload(raw, dtype=dtype, endianess=endianess, sig_shape=(3, 4))


@pytest.mark.parametrize("dtype", ["u1", "b1", "i1"])
@pytest.mark.parametrize("endianess", ["<", ">"])
def test_single_bytes_have_no_order_to_contradict(raw, dtype, endianess):
    raw.write_bytes(b"\0\1")
    image = emio.imload(raw, dtype=dtype, endianess=endianess, sig_shape=(2,)).image
    assert image.values.tolist() == [0, 1]


@pytest.mark.parametrize("endianess", ["big", "=", 1])
def test_another_endianess_is_refused(raw, endianess):
    write_raw(raw, frames())
    with pytest.raises(ArgumentError, match="endianess"):
        emio.imload(raw, dtype="u2", endianess=endianess, sig_shape=(3, 4))


@pytest.mark.parametrize("chunks", [None, "auto"])
def test_any_byte_but_zero_is_true(raw, chunks):
    raw.write_bytes(bytes([0, 1, 2, 128, 255, 0]))
    image = emio.imload(raw, dtype="b1", sig_shape=(1, 3), chunks=chunks).image
    assert image.dtype == bool
    assert image.values.view("u1").ravel().tolist() == [0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    "dtype", ["O", "V4", "S2", "U1", "M8[s]", "m8[s]", "i4,f4", "(2,)u2", [("a", "u2")], "S0", "u3", "foo", "", "<", 7]
)
def test_types_that_are_no_numbers_are_refused_and_quoted(raw, dtype):
    write_raw(raw, frames())
    with pytest.raises(ArgumentError) as error:
        emio.imload(raw, dtype=dtype, sig_shape=(3, 4))
    assert repr(dtype) in str(error.value)
    assert str(raw) in str(error.value)


# Arguments -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "missing"),
    [({"dtype": "u2"}, "sig_shape"), ({"sig_shape": (3, 4)}, "dtype"), ({}, "dtype and sig_shape")],
)
def test_missing_arguments_are_a_type_error_that_names_them(raw, given, missing):
    write_raw(raw, frames())
    with pytest.raises(TypeError, match=rf"frames\.raw.*pass {missing}$"):
        RawSource(raw, **given)


def test_arguments_may_be_text_as_in_catalogs(raw):
    stored = frames()
    write_raw(raw, stored, file_header=b"abc")
    image = emio.imload(raw, dtype="uint16", sig_shape="3, 4", nav_shape="(2, 3)", file_header="3").image
    np.testing.assert_array_equal(image, stored.reshape(2, 3, 3, 4))


def test_older_names_of_the_shapes_are_understood(raw):
    stored = frames()
    write_raw(raw, stored)
    with pytest.warns(FutureWarning) as record:
        image = emio.imload(raw, dtype="<u2", scan_size=(2, 3), detector_size=(3, 4)).image
    assert {str(w.message) for w in record} == {
        "scan_size is deprecated: use nav_shape",
        "detector_size is deprecated: use sig_shape",
    }
    np.testing.assert_array_equal(image, stored.reshape(2, 3, 3, 4))


@pytest.mark.parametrize(
    "both", [{"scan_size": (2, 3), "nav_shape": (2, 3)}, {"detector_size": (3, 4), "sig_shape": (3, 4)}]
)
def test_old_and_new_name_together_are_refused(raw, both):
    write_raw(raw, frames())
    with pytest.warns(FutureWarning), pytest.raises(ArgumentError, match="old name"):
        emio.imload(raw, **{"dtype": "<u2", "sig_shape": (3, 4), **both})


def test_rows_at_the_end_of_each_frame_are_cropped(raw):
    """The 130 x 128 frames of an EMPAD, of which the last two rows are no pixels."""
    stored = frames(4, (130, 128), "<f4")
    write_raw(raw, stored)
    with pytest.warns(FutureWarning, match="frame_footer"):
        source = RawSource(
            raw, dtype="<f4", detector_size_raw=(130, 128), crop_detector_to=(128, 128), nav_shape=(2, 2)
        )
    np.testing.assert_array_equal(source.read().image.values.reshape(4, 128, 128), stored[:, :128])
    assert source.sig_shape == (128, 128)
    assert source.frame_footer == 2 * 128 * 4


def test_cropping_comes_on_top_of_a_footer(raw):
    stored = frames(3, (5, 2))
    write_raw(raw, stored, frame_footer=7)
    with pytest.warns(FutureWarning):
        image = emio.imload(
            raw, dtype="<u2", detector_size_raw=(5, 2), crop_detector_to=(3, 2), frame_footer=7, format="raw"
        ).image
    np.testing.assert_array_equal(image, stored[:, :3])


@pytest.mark.parametrize(
    ("crop", "says"),
    [
        ({"detector_size_raw": (3, 4), "crop_detector_to": (3, 2)}, r"\.isel"),
        ({"detector_size_raw": (3, 4), "crop_detector_to": (4, 4)}, r"\.isel"),
        ({"detector_size_raw": (3, 4), "crop_detector_to": (2, 2)}, r"\.isel"),
        ({"detector_size_raw": (3, 4)}, "both"),
        ({"crop_detector_to": (3, 4)}, "both"),
        ({"detector_size_raw": (3, 4), "crop_detector_to": (2, 4), "sig_shape": (2, 4)}, "sig_shape"),
        ({"detector_size_raw": (3, 4), "crop_detector_to": (2, 4), "detector_size": (2, 4)}, "sig_shape"),
    ],
)
def test_other_crops_are_refused(raw, crop, says):
    write_raw(raw, frames())
    with pytest.warns(FutureWarning), pytest.raises(ArgumentError, match=says):
        emio.imload(raw, dtype="<u2", **crop)


def test_enable_direct_is_the_direct_backend(raw):
    write_raw(raw, frames())
    with pytest.warns(FutureWarning, match="io_backend='direct'"):
        source = RawSource(raw, dtype="<u2", sig_shape=(3, 4), enable_direct=True)
    assert source.io_backend == "direct"


@pytest.mark.parametrize("old", [{"tileshape": (1, 2, 3)}, {"enable_direct": False}])
def test_arguments_without_effect_are_taken_with_a_warning(raw, old):
    stored = frames()
    write_raw(raw, stored)
    with pytest.warns(FutureWarning, match=next(iter(old))):
        image = emio.imload(raw, dtype="<u2", sig_shape=(3, 4), **old).image
    np.testing.assert_array_equal(image, stored)


@pytest.mark.parametrize("kind", ["mmap", "buffered"])
def test_a_source_written_as_a_catalog_opens_the_same_data(raw, tmp_path, kind):
    intake = pytest.importorskip("intake")
    stored = frames(6, (5, 4), ">u2")
    write_raw(raw, stored)
    with pytest.warns(FutureWarning):
        source = RawSource(
            raw, dtype=np.uint16, endianess=">", detector_size_raw=(5, 4), crop_detector_to=(3, 4), io_backend=kind
        )
    catalog = tmp_path / "catalog.yml"
    catalog.write_text(source.yaml())
    again = intake.open_catalog(str(catalog))[source.name]
    np.testing.assert_array_equal(again.read().image, stored[:, :3])


def test_an_unknown_argument_is_a_type_error_that_names_the_known_ones(raw):
    write_raw(raw, frames())
    with pytest.raises(TypeError, match=r"'footer'.*frame_footer"):
        emio.imload(raw, dtype="u2", sig_shape=(3, 4), footer=3)


# What is refused -----------------------------------------------------------------------------------------------------


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"gone\.raw"):
        emio.imload(tmp_path / "gone.raw", dtype="u2", sig_shape=(3, 4))


def test_an_empty_file_is_refused(raw):
    raw.write_bytes(b"")
    with pytest.raises(TruncatedError, match=r"frames\.raw.* 0 bytes"):
        emio.imload(raw, dtype="u2", sig_shape=(3, 4))


@pytest.mark.parametrize("how", [{}, {"format": "raw"}])
def test_a_folder_is_refused(tmp_path, how):
    with pytest.raises(EmioError, match="folder"):
        emio.imload(tmp_path, dtype="u2", sig_shape=(3, 4), **how)


@pytest.mark.parametrize(
    "arguments",
    [
        {"sig_shape": (3, 5)},
        {"sig_shape": (3, 4), "file_header": 1},
        {"sig_shape": (3, 4), "frame_header": 1},
        {"sig_shape": (2**40, 2**40)},
        {"sig_shape": (3, 5), "nav_shape": (1, 1)},
    ],
)
def test_a_frame_larger_than_the_file_is_refused(raw, arguments):
    write_raw(raw, frames(1))
    with pytest.raises(TruncatedError, match=r"frames\.raw: one frame.*but only 2[34] "):
        emio.imload(raw, dtype="<u2", **arguments)


@pytest.mark.parametrize("file_header", [24, 25, 10**12])
def test_a_file_header_up_to_the_end_or_beyond_is_refused(raw, file_header):
    write_raw(raw, frames(1))
    with pytest.raises(TruncatedError, match=f"file_header={file_header}"):
        emio.imload(raw, dtype="<u2", sig_shape=(3, 4), file_header=file_header)


@pytest.mark.parametrize("name", ["file_header", "frame_header", "frame_footer"])
@pytest.mark.parametrize("value", [-1, 1.5, "x", None])
def test_headers_that_are_no_sizes_are_refused(raw, name, value):
    write_raw(raw, frames())
    with pytest.raises(ArgumentError, match=name):
        emio.imload(raw, dtype="u2", sig_shape=(3, 4), **{name: value})


@pytest.mark.parametrize("name", ["sig_shape", "nav_shape"])
@pytest.mark.parametrize("shape", [(0, 4), (-3, -4), (3, 0), 0, (1.5, 2), "abc"])
def test_shapes_that_are_not_positive_are_refused(raw, name, shape):
    write_raw(raw, frames())
    with pytest.raises(ArgumentError, match=name):
        emio.imload(raw, **{"dtype": "u2", "sig_shape": (3, 4), name: shape})


# Laziness ------------------------------------------------------------------------------------------------------------


def test_blank_points_of_a_huge_scan_cost_nothing_until_they_are_asked_for(raw):
    stored = frames(4, (2, 2))
    write_raw(raw, stored)
    with pytest.warns(emio.EmioWarning, match="frames are missing"):
        image = emio.imload(raw, dtype="<u2", sig_shape=(2, 2), nav_shape=(100_000, 100_000)).image
    assert isinstance(image.data, da.Array)
    np.testing.assert_array_equal(image[0, :4], stored)
    assert not image[-1, -3:].values.any()


@pytest.mark.skipif(sys.platform == "win32", reason="files are not sparse by default")
def test_a_file_larger_than_memory_opens_at_once(raw):
    raw.write_bytes(b"")
    os.truncate(raw, 2**40)
    with open(raw, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    image = emio.imload(raw, dtype=">u2", sig_shape=(1024, 1024), nav_shape=(512, 1024)).image
    assert image.nbytes == 2**40
    assert len(image.__dask_graph__()) < 20_000
    assert int(image[-1, -1, -1, -1]) == 1


def test_the_dataset_travels_without_its_pixels(raw):
    write_raw(raw, np.zeros((100, 64, 64), "u2"))
    ds = emio.imload(raw, dtype="u2", sig_shape=(64, 64))
    assert len(pickle.dumps(ds)) < 20_000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ds)).image, 0)


# Other readers -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def libertem():
    """LiberTEM's frames of a raw file: missing ones are zero."""
    api = pytest.importorskip("libertem.api")
    udf = pytest.importorskip("libertem.udf.raw")
    context = api.Context.make_with("inline")

    def read(path, **arguments):
        dataset = context.load("raw", path=str(path), **arguments)
        roi = np.ones(tuple(dataset.shape.nav), bool)
        picked = context.run_udf(dataset, udf.PickUDF(), roi=roi)["intensity"].data
        return picked.reshape(tuple(dataset.shape))

    return read


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<f4", ">i4"])
def test_libertem_reads_the_same(raw, libertem, dtype):
    write_raw(raw, frames(6, (4, 4), dtype))
    arguments = {"dtype": dtype, "nav_shape": (2, 3), "sig_shape": (4, 4)}
    np.testing.assert_array_equal(emio.imload(raw, **arguments).image, libertem(raw, **arguments))


@pytest.mark.peers
@pytest.mark.parametrize("nav_shape", [(2, 2), (2, 3), (3, 4), (6,), (1, 2, 3)])
@pytest.mark.parametrize("sync_offset", [0, 1, -1, 5, -5])
@pytest.mark.filterwarnings("ignore::intake_emio.errors.EmioWarning")
def test_libertem_shows_the_same_frames_at_the_same_points(raw, libertem, nav_shape, sync_offset):
    write_raw(raw, frames(6, (4, 4)))
    arguments = {"dtype": "<u2", "nav_shape": nav_shape, "sig_shape": (4, 4), "sync_offset": sync_offset}
    np.testing.assert_array_equal(emio.imload(raw, **arguments).image, libertem(raw, **arguments))
