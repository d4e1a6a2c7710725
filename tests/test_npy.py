"""NumPy array files, read and written."""

import io
import itertools
import os
import pickle
import shutil
import struct
import sys

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import intake_emio as emio
from intake_emio.errors import ArgumentError, HeaderError, MissingFileError, TargetExistsError, TruncatedError

from .encoders.npy import write_npy

# numpy.save of [[1, 2, 3], [4, 5, 600]] as '<u2', worked by hand
PREAMBLE = bytes.fromhex("93 4e 55 4d 50 59 01 00 76 00")
HEADER = b"{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3), }"
WORKED = PREAMBLE + HEADER.ljust(117) + b"\n" + bytes.fromhex("01 00 02 00 03 00 04 00 05 00 58 02")
FORTRAN = (
    PREAMBLE
    + HEADER.replace(b"False", b"True").ljust(117)
    + b"\n"
    + bytes.fromhex("01 00 04 00 02 00 05 00 03 00 58 02")
)
DIMS = {2: "yx", 3: "iyx", 4: "yxvu", 5: "iyxvu", 6: "ityxvu"}


def counted(*shape, dtype="<u2"):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.fixture
def npy(tmp_path):
    return tmp_path / "array.npy"


# Layout --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [WORKED, FORTRAN], ids=["C order", "Fortran order"])
@pytest.mark.parametrize("chunks", [None, "auto", 1, "frame"])
def test_the_file_worked_by_hand_is_read(npy, content, chunks):
    assert len(content) == 140
    npy.write_bytes(content)
    ds = emio.imload(npy, chunks=chunks)
    assert ds.image.dims == ("y", "x")
    assert ds.image.dtype == np.uint16
    assert ds.image.values.tolist() == [[1, 2, 3], [4, 5, 600]]


@pytest.mark.parametrize("name", ["a.npy", "A.NPY", "a.raw", "a.blo", "a"])
def test_a_numpy_file_is_recognised_whatever_it_is_called(tmp_path, name):
    path = write_npy(tmp_path / name, counted(3, 4))
    assert emio.detect(path).format == "npy"
    np.testing.assert_array_equal(emio.imload(path).image, counted(3, 4))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("padding", [64, 16, 1, 0])
@pytest.mark.parametrize("fortran_order", [False, True])
def test_every_version_and_alignment_is_read(npy, version, padding, fortran_order):
    array = counted(2, 3, 4, 5, dtype=">f4")
    write_npy(npy, array, version=version, padding=padding, fortran_order=fortran_order)
    image = emio.imload(npy).image
    assert image.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(image, array)


@pytest.mark.parametrize(
    "text",
    [
        "{'shape': (2, 3), 'fortran_order': False, 'descr': '<u2'}",
        "{ 'descr' : '<u2',\n  'fortran_order' : False,\n  'shape' : ( 2 , 3 ) }",
        '{"descr": "<u2", "fortran_order": False, "shape": (2, 3,)}',
        "{'descr': '<u2', 'fortran_order': False, 'shape': (2L, 3L), }",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (2L,3L)}",
        "{'descr':'uint16','fortran_order':False,'shape':(2,3)}",
    ],
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_headers_of_other_programs_are_understood(npy, text, version):
    write_npy(npy, counted(2, 3), header_text=text, version=version)
    np.testing.assert_array_equal(emio.imload(npy).image, counted(2, 3))


def test_shapes_of_python_2_are_understood(npy):
    write_npy(npy, counted(10, 20), long_suffix=True)
    np.testing.assert_array_equal(emio.imload(npy).image, counted(10, 20))


def test_a_field_that_looks_like_a_number_of_python_2_keeps_its_name(npy):
    array = np.zeros((2, 3), [("ch1L", "<u2"), ("2L", "<u2")])
    array["2L"] = counted(2, 3)
    write_npy(npy, array)
    np.testing.assert_array_equal(emio.imload(npy, key="2L").image, counted(2, 3))
    np.testing.assert_array_equal(emio.imload(npy, key="ch1L").image, 0)


@pytest.mark.parametrize("trailing", [b"\xff", b"\xff" * 24, WORKED])
def test_only_the_first_array_of_a_file_is_read(npy, trailing):
    write_npy(npy, counted(2, 3, 4), trailing=trailing)
    np.testing.assert_array_equal(emio.imload(npy).image, counted(2, 3, 4))


@settings(max_examples=60, deadline=None)
@given(
    array=hnp.arrays(
        st.sampled_from(["u1", "<i2", ">u4", "<f8", ">c8", "?"]), hnp.array_shapes(min_dims=2, max_dims=5, max_side=5)
    ),
    fortran_order=st.booleans(),
    chunks=st.sampled_from([None, "auto", 1, 2, "frame"]),
)
def test_whatever_numpy_saves_is_read(tmp_path_factory, array, fortran_order, chunks):
    path = tmp_path_factory.getbasetemp() / "saved.npy"
    np.save(path, np.asfortranarray(array) if fortran_order else array)
    image = emio.imload(path, chunks=chunks).image
    assert "".join(image.dims) == DIMS[array.ndim]
    assert image.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(image, array)


@pytest.mark.parametrize("io_backend", ["mmap", "buffered", "direct"])
@pytest.mark.parametrize("fortran_order", [False, True])
def test_all_ways_to_the_disk_read_the_same(npy, io_backend, fortran_order):
    array = counted(3, 4, 5, 6)
    write_npy(npy, array, fortran_order=fortran_order, padding=0)
    try:
        image = emio.imload(npy, io_backend=io_backend).image.compute()
    except emio.EmioError as error:
        if "file system cannot do direct reads" not in str(error):
            raise
        pytest.skip(str(error))
    np.testing.assert_array_equal(image, array)


def test_a_remote_file_reads_as_a_local_one():
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://npy/array.npy", "wb") as file:
        file.write(WORKED)
    assert emio.imload("memory://npy/array.npy").image.values.tolist() == [[1, 2, 3], [4, 5, 600]]


# Fortran order -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (2, 3, 4, 5), (2, 3, 2, 3, 4), (5,)])
@pytest.mark.parametrize("chunks", [None, "auto", "frame", 2])
def test_fortran_order_is_read_right_lazily_and_eagerly(npy, shape, chunks):
    write_npy(npy, counted(*shape), fortran_order=True)
    image = emio.imload(npy, chunks=chunks, sig_dims=min(2, len(shape))).image
    np.testing.assert_array_equal(image, counted(*shape))


def test_parts_of_a_fortran_file_are_right(npy):
    array = counted(3, 4, 5, 6)
    write_npy(npy, array, fortran_order=True)
    image = emio.imload(npy).image
    np.testing.assert_array_equal(image[1:, ::2, 3, 1:5:3], array[1:, ::2, 3, 1:5:3])
    np.testing.assert_array_equal(emio.imload(npy, partition={"v": 2, "x": [3, 0]}).image, array[:, [3, 0], 2])
    np.testing.assert_array_equal(emio.imload(npy, output_axis_order="uvxy").image, array.T)


def test_chunks_of_a_fortran_file_follow_the_order_on_disk(npy):
    """A scan is stored as (u, v, x, y): what lies together is the whole scan of some detector pixels."""
    write_npy(npy, counted(2, 3, dtype="u1"), shape=(512, 512, 32, 32), fortran_order=True)
    os.truncate(npy, 128 + 2**28)
    chunk = emio.imload(npy).image.data.chunksize
    assert chunk[:2] == (512, 512)
    assert chunk[3] < 32


@pytest.mark.parametrize(
    "arguments", [{"nav_shape": (6,)}, {"nav_shape": (1, 2)}, {"sig_shape": (5, 4)}, {"sync_offset": 1}]
)
def test_frames_of_a_fortran_file_cannot_be_counted_anew(npy, arguments):
    write_npy(npy, counted(2, 3, 4, 5), fortran_order=True)
    with pytest.raises(ArgumentError, match="Fortran"):
        emio.imload(npy, **arguments)


def test_shapes_that_change_nothing_are_allowed_for_fortran_files(npy):
    write_npy(npy, counted(2, 3, 4, 5), fortran_order=True)
    image = emio.imload(npy, nav_shape=(2, 3), sig_shape=(4, 5), sync_offset=0).image
    np.testing.assert_array_equal(image, counted(2, 3, 4, 5))


# Pixel types ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"])
def test_every_number_type_is_read_in_native_order(npy, kind, order):
    array = (counted(2, 3, 4) * 5).astype(order + kind)
    write_npy(npy, array)
    image = emio.imload(npy).image
    assert image.dtype == np.dtype(kind)
    assert image.dtype.isnative
    np.testing.assert_array_equal(image, array)


@pytest.mark.skipif(np.dtype("g").itemsize != 16, reason="long doubles of this machine are others")
@pytest.mark.parametrize("kind", ["f16", "c32"])
def test_long_doubles_are_read_where_the_machine_has_them(npy, kind):
    np.save(npy, counted(2, 3).astype(kind) / 3)
    np.testing.assert_array_equal(emio.imload(npy).image, counted(2, 3).astype(kind) / 3)


def test_bools_stay_bools(npy):
    array = np.array([[True, False], [False, True]])
    np.save(npy, array)
    image = emio.imload(npy).image
    assert image.dtype == bool
    np.testing.assert_array_equal(image, array)


@pytest.mark.parametrize("names", ["RGB", "RGBA"])
@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2"])
@pytest.mark.parametrize("fortran_order", [False, True])
@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 5)])
def test_records_of_colours_are_an_rgb_image(npy, names, kind, fortran_order, shape):
    colours = counted(*shape, len(names), dtype=kind)
    records = np.zeros(shape, [(name, kind) for name in names])
    for number, name in enumerate(names):
        records[name] = colours[..., number]
    write_npy(npy, records, fortran_order=fortran_order)
    image = emio.imload(npy).image
    assert "".join(image.dims) == DIMS[len(shape)] + "c"
    assert image.c.values.tolist() == list(names.lower())
    assert image.dtype == np.dtype(kind).newbyteorder("=")
    np.testing.assert_array_equal(image, colours)


@pytest.mark.parametrize(
    "fields",
    [
        [("R", "u1"), ("G", "u1")],
        [("R", "u1"), ("G", "u1"), ("B", "<u2")],
        [("R", "<f4"), ("G", "<f4"), ("B", "<f4")],
        [("B", "u1"), ("G", "u1"), ("R", "u1")],
        [("r", "u1"), ("g", "u1"), ("b", "u1")],
    ],
)
def test_other_records_are_no_rgb_image_and_the_fields_are_listed(npy, fields):
    np.save(npy, np.zeros((2, 3), fields))
    with pytest.raises(ArgumentError, match=rf"array\.npy.*key=.*{', '.join(name for name, _ in fields)}"):
        emio.imload(npy)


def test_an_image_of_height_by_width_by_three_is_not_guessed_to_be_rgb(npy):
    np.save(npy, counted(4, 5, 3, dtype="u1"))
    assert emio.imload(npy).image.dims == ("i", "y", "x")
    assert emio.imload(npy, metadata={"axes": "yxc"}).image.dims == ("y", "x", "c")


@pytest.mark.parametrize("fortran_order", [False, True])
@pytest.mark.parametrize("key", ["counts", "energy", "flag"])
def test_one_field_of_a_record_is_read_where_it_lies(npy, key, fortran_order):
    records = np.zeros((2, 3, 4), [("flag", "?"), ("counts", ">u2"), ("name", "S3"), ("energy", "<f8")])
    records["counts"], records["energy"] = counted(2, 3, 4), counted(2, 3, 4) / 7
    records["flag"] = counted(2, 3, 4) % 3 == 0
    write_npy(npy, records, fortran_order=fortran_order)
    image = emio.imload(npy, key=key).image
    assert image.dims == ("i", "y", "x")
    np.testing.assert_array_equal(image, records[key])


def test_a_single_numeric_field_needs_no_key(npy):
    records = np.zeros((2, 3), [("counts", "<u2")])
    records["counts"] = counted(2, 3)
    np.save(npy, records)
    np.testing.assert_array_equal(emio.imload(npy).image, counted(2, 3))


@pytest.mark.parametrize("fortran_order", [False, True])
def test_axes_within_a_field_are_trailing_axes(npy, fortran_order):
    records = np.zeros((2, 3), [("index", "<u4"), ("frame", ">u2", (4, 5))])
    records["frame"] = counted(2, 3, 4, 5)
    write_npy(npy, records, fortran_order=fortran_order)
    image = emio.imload(npy, key="frame").image
    assert image.dims == ("y", "x", "v", "u")
    np.testing.assert_array_equal(image, counted(2, 3, 4, 5))
    np.testing.assert_array_equal(emio.imload(npy, key="index").image, 0)


def test_axes_within_the_type_of_the_array_are_trailing_axes(npy):
    write_npy(npy, counted(2, 3, 4), descr=("<u2", (4,)), shape=(2, 3))
    np.testing.assert_array_equal(emio.imload(npy).image, counted(2, 3, 4))


def test_a_field_with_a_title_goes_by_its_name(npy):
    records = np.zeros((2, 3), [(("counts of the detector", "n"), "<u2"), ("m", "<u2")])
    records["n"] = counted(2, 3)
    np.save(npy, records)
    np.testing.assert_array_equal(emio.imload(npy, key="n").image, counted(2, 3))


@pytest.mark.filterwarnings("ignore:Stored array in format")
def test_a_field_whose_name_is_not_latin_1_is_read(npy):
    records = np.zeros((2, 3), [("強度", "<u2"), ("m", "<u2")])
    records["強度"] = counted(2, 3)
    np.save(npy, records)
    assert npy.read_bytes()[6] == 3
    np.testing.assert_array_equal(emio.imload(npy, key="強度").image, counted(2, 3))


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ([("a", "<u2"), ("s", "S3")], "s"),
        ([("a", "<u2"), ("s", "S3")], "b"),
        ([("a", "<u2"), ("n", [("b", "<u2")])], "n"),
        ([("s", "S3")], None),
        ([("n", [("b", "<u2")])], None),
        ("<u2", "a"),
    ],
)
def test_a_key_that_names_no_numeric_field_is_refused(npy, fields, key):
    np.save(npy, np.zeros((2, 3), fields))
    with pytest.raises((ArgumentError, HeaderError), match=r"array\.npy"):
        emio.imload(npy, key=key)


class Exploding:
    """Unpickled, it would leave a file behind."""

    def __reduce__(self):
        return open, (Exploding.trace, "w")


@pytest.mark.parametrize("dtype", ["O", [("a", "O")]])
def test_pickled_objects_are_never_loaded(npy, tmp_path, dtype):
    Exploding.trace = str(tmp_path / "exploded")
    array = np.empty((2, 3), "O")
    array[...] = Exploding()
    np.save(npy, array if dtype == "O" else array.astype(dtype), allow_pickle=True)
    with pytest.raises(HeaderError, match=r"array\.npy.*never loaded"):
        emio.imload(npy)
    with pytest.raises(TypeError, match="allow_pickle"):
        emio.imload(npy, allow_pickle=True)
    assert not os.path.exists(Exploding.trace)


@pytest.mark.parametrize("dtype", ["U3", "S3", "V3", "M8[s]", "m8[ns]"])
def test_types_that_are_no_pixels_are_refused(npy, dtype):
    np.save(npy, np.zeros((2, 3), dtype))
    with pytest.raises(HeaderError, match=r"array\.npy.*not pixels"):
        emio.imload(npy)


# Shapes and axes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ndim", "dims"), DIMS.items())
def test_axes_are_named_by_their_number_and_have_no_coordinates(npy, ndim, dims):
    array = counted(*range(2, 2 + ndim), dtype="u1")
    np.save(npy, array)
    ds = emio.imload(npy)
    assert "".join(ds.image.dims) == dims
    assert not ds.coords
    np.testing.assert_array_equal(ds.image, array)


def test_axes_of_length_one_are_kept(npy):
    np.save(npy, counted(1, 3, 1, 1))
    assert emio.imload(npy).image.shape == (1, 3, 1, 1)


def test_more_than_six_axes_are_named_by_metadata(npy):
    array = counted(1, 2, 1, 2, 1, 2, 2)
    np.save(npy, array)
    with pytest.raises(ArgumentError, match=r'metadata=\{"axes"'):
        emio.imload(npy)
    image = emio.imload(npy, metadata={"axes": "abcdefg"}).image
    assert "".join(image.dims) == "abcdefg"
    np.testing.assert_array_equal(image, array)


def test_calibration_comes_from_metadata(npy):
    np.save(npy, counted(2, 3))
    image = emio.imload(npy, metadata={"spacing": {"y": 0.5}, "spacing_units": {"y": "nm"}}).image
    assert image.y.values.tolist() == [0, 0.5]
    assert image.y.attrs["units"] == "nm"


STACK = counted(2, 3, 4)  # two frames of 3 x 4
FLAT = STACK.ravel()


def padded(values, shape):
    return np.concatenate([values, np.zeros(np.prod(shape) - len(values), values.dtype)]).reshape(shape)


@pytest.mark.parametrize(
    ("arguments", "dims", "expected", "missing"),
    [
        ({}, "iyx", STACK, 0),
        ({"nav_shape": (1, 1)}, "yxvu", STACK[:1, None], 0),
        ({"nav_shape": (1,)}, "iyx", STACK[:1], 0),
        ({"nav_shape": (2, 1)}, "yxvu", STACK[:, None], 0),
        ({"nav_shape": (3, 3)}, "yxvu", padded(FLAT, (3, 3, 3, 4)), 7),
        ({"sig_shape": (2, 2)}, "iyx", FLAT[:8].reshape(2, 2, 2), 0),
        ({"sig_shape": (2, 2), "nav_shape": (2, 3)}, "yxvu", FLAT.reshape(2, 3, 2, 2), 0),
        ({"sig_shape": (5,), "sig_dims": 1}, "yxu", padded(FLAT[:20], (2, 3, 5)), 2),
        ({"sig_shape": (5,)}, "yxu", padded(FLAT[:20], (2, 3, 5)), 2),
        ({"sig_dims": 1}, "yxu", STACK, 0),
        ({"sig_dims": 3}, "cyx", STACK, 0),
        ({"sync_offset": 1}, "iyx", np.stack([STACK[1], 0 * STACK[0]]), 0),
        ({"sync_offset": -1}, "iyx", np.stack([0 * STACK[0], STACK[0]]), 0),
        ({"sig_shape": (2, 2), "nav_shape": (6,), "sync_offset": 4}, "iyx", padded(FLAT[16:], (6, 2, 2)), 0),
    ],
)
def test_the_stream_of_elements_is_cut_as_asked(npy, arguments, dims, expected, missing):
    np.save(npy, STACK)
    if missing:
        with pytest.warns(emio.EmioWarning, match=rf"array\.npy: {missing} of"):
            image = emio.imload(npy, **arguments).image
    else:
        image = emio.imload(npy, **arguments).image
    assert "".join(image.dims) == dims
    np.testing.assert_array_equal(image, expected)


def test_a_flat_stream_of_frames_becomes_a_scan(npy):
    array = counted(12, 2, 2)
    np.save(npy, array)
    image = emio.imload(npy, nav_shape="3,4").image
    assert image.dims == ("y", "x", "v", "u")
    np.testing.assert_array_equal(image, array.reshape(3, 4, 2, 2))


@pytest.mark.parametrize(
    ("shape", "navigation_axes", "dims", "order"),
    [
        ((2, 3, 4, 5), [2, 3], "yxvu", (2, 3, 0, 1)),
        ((2, 3, 4, 5), [0, 1], "yxvu", (0, 1, 2, 3)),
        ((2, 3, 4, 5), [3, 2], "yxvu", (3, 2, 0, 1)),
        ((2, 3, 4, 5), [-2, -1], "yxvu", (2, 3, 0, 1)),
        ((2, 3, 4), [2], "iyx", (2, 0, 1)),
        ((2, 3, 4), [1, 2], "yxu", (1, 2, 0)),
        ((2, 3, 4), [], "cyx", (0, 1, 2)),
        ((2, 3), [], "yx", (0, 1)),
    ],
)
@pytest.mark.parametrize("fortran_order", [False, True])
def test_navigation_axes_come_first_whatever_their_position(npy, shape, navigation_axes, dims, order, fortran_order):
    array = counted(*shape)
    write_npy(npy, array, fortran_order=fortran_order)
    image = emio.imload(npy, navigation_axes=navigation_axes).image
    assert "".join(image.dims) == dims
    np.testing.assert_array_equal(image, array.transpose(order))


@pytest.mark.parametrize("navigation_axes", [[4], [0, 0], [0, -4], [-5], [0, 1, 2, 3, 4]])
def test_navigation_axes_that_are_none_are_refused(npy, navigation_axes):
    np.save(npy, counted(2, 3, 4, 5))
    with pytest.raises(ArgumentError, match=r"array\.npy.*navigation_axes"):
        emio.imload(npy, navigation_axes=navigation_axes)


@pytest.mark.parametrize("other", [{"sig_dims": 2}, {"nav_shape": (2, 3)}, {"sig_shape": (4, 5)}])
def test_navigation_axes_exclude_other_ways_to_say_it(npy, other):
    np.save(npy, counted(2, 3, 4, 5))
    with pytest.raises(ArgumentError, match="navigation_axes excludes"):
        emio.imload(npy, navigation_axes=[2, 3], **other)


@pytest.mark.parametrize(
    ("shape", "arguments", "says"),
    [
        ((5,), {}, "sig_dims"),
        ((2, 3), {"sig_dims": 3}, "sig_dims"),
        ((2, 3), {"sig_dims": -1}, "sig_dims"),
        ((2, 3, 4), {"sig_shape": (5,), "sig_dims": 2}, "sig_dims"),
        ((2, 3, 4), {"sig_shape": (5, 5)}, "sig_shape"),
        ((2, 3, 4), {"sig_shape": (0, 5)}, "sig_shape"),
        ((2, 3, 4), {"nav_shape": (0,)}, "nav_shape"),
        ((2, 3, 4), {"sync_offset": 2}, "sync_offset=2"),
        ((2, 3, 4), {"sync_offset": -2}, "sync_offset=-2"),
        ((2, 3, 4), {"sig_shape": (5,), "sync_offset": 4}, "sync_offset=4"),
        ((2, 3), {"sync_offset": 1}, "sync_offset=1"),
    ],
)
def test_arguments_that_do_not_fit_the_array_are_refused(npy, shape, arguments, says):
    np.save(npy, counted(*shape))
    with pytest.raises(ArgumentError, match=says):
        emio.imload(npy, **arguments)


def test_a_line_is_read_if_asked_for(npy):
    np.save(npy, counted(5))
    image = emio.imload(npy, sig_dims=1).image
    assert image.dims == ("x",)
    np.testing.assert_array_equal(image, counted(5))


def test_chunks_are_those_of_dask_per_axis(npy):
    np.save(npy, counted(4, 6, 8, 10))
    image = emio.imload(npy, chunks=(1, -1, "auto", 5)).image
    assert image.data.chunksize == (1, 6, 8, 5)
    np.testing.assert_array_equal(image, counted(4, 6, 8, 10))


def test_an_unknown_argument_is_a_type_error_that_names_the_known_ones(npy):
    np.save(npy, counted(2, 3))
    with pytest.raises(TypeError, match=r"'mmap_mode'.*navigation_axes.*key"):
        emio.imload(npy, mmap_mode="r")


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [6, 7, 8, 9, 10, 50, 127])
def test_a_file_that_ends_in_its_header_is_refused(npy, size):
    npy.write_bytes(WORKED[:size])
    with pytest.raises(TruncatedError, match=r"array\.npy.*needs \d+ bytes.*only \d+"):
        emio.imload(npy)


def test_a_header_longer_than_the_file_is_refused(npy):
    npy.write_bytes(PREAMBLE[:8] + struct.pack("<H", 5000) + WORKED[10:])
    with pytest.raises(TruncatedError, match=r"array\.npy.*needs 5000 bytes.*only 130"):
        emio.imload(npy)


def test_a_header_longer_than_numpy_allows_is_refused_before_it_is_read(npy):
    npy.write_bytes(PREAMBLE[:6] + b"\2\0" + struct.pack("<I", 2**32 - 1) + WORKED[10:])
    with pytest.raises(HeaderError, match="4294967295"):
        emio.imload(npy)


def test_a_header_of_ten_thousand_bytes_is_read_and_of_more_is_not(npy):
    write_npy(npy, counted(2, 3), header_text=HEADER.ljust(10_000))
    np.testing.assert_array_equal(emio.imload(npy).image, counted(2, 3))
    write_npy(npy, counted(2, 3), header_text=HEADER.ljust(10_001))
    with pytest.raises(HeaderError, match="10001"):
        emio.imload(npy)


@pytest.mark.parametrize(
    "start", [b"", b"\x93NUMP", b"NUMPY" + WORKED, b"\x80\x04\x95" + WORKED, b"MATLAB 5.0", b"\x93numpy" + WORKED[6:]]
)
def test_a_file_without_the_magic_is_refused(npy, start):
    npy.write_bytes(start)
    with pytest.raises(HeaderError, match=r"array\.npy: not a NumPy file") as error:
        emio.imload(npy)
    assert repr(start[:8]) in str(error.value)


@pytest.mark.parametrize("major", [0, 4, 255])
def test_an_unknown_version_is_refused(npy, major):
    npy.write_bytes(WORKED[:6] + bytes([major]) + WORKED[7:])
    with pytest.raises(HeaderError, match=rf"array\.npy: version {major} "):
        emio.imload(npy)


def header_with(**changed):
    parts = {"descr": "'<u2'", "fortran_order": "False", "shape": "(2, 3)"} | changed
    return "{" + ", ".join(f"'{key}': {value}" for key, value in parts.items() if value is not None) + "}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "dictionary"),
        ("{", "dictionary"),
        ("{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3)", "dictionary"),
        ("(1, 2)", "keys"),
        ("{1, 2}", "keys"),
        ("__import__('os').system('touch exploded')", "dictionary"),
        (header_with(shape="tuple([2, 3])"), "dictionary"),
        (header_with(shape=None), "keys"),
        (header_with(descr=None), "keys"),
        (header_with(fortran_order=None), "keys"),
        (header_with(extra="1"), "keys"),
        (header_with(shape="[2, 3]"), "shape"),
        (header_with(shape="6"), "shape"),
        (header_with(shape="(2, -3)"), "shape"),
        (header_with(shape="(2, 3.0)"), "shape"),
        (header_with(shape="(2, True)"), "shape"),
        (header_with(shape="(2, '3')"), "shape"),
        (header_with(fortran_order="1"), "fortran_order"),
        (header_with(fortran_order="'False'"), "fortran_order"),
        (header_with(fortran_order="None"), "fortran_order"),
        (header_with(descr="'nonsense'"), "descr"),
        (header_with(descr="17"), "descr"),
        (header_with(descr="None"), "descr"),
        (header_with(descr="''"), "descr"),
        (header_with(descr="[('a',)]"), "descr"),
        (header_with(descr="[('a', 'nonsense')]"), "descr"),
        (header_with(descr="('<u2',)"), "descr"),
        (header_with(descr="('<u2', (-1,))"), "descr"),
        (header_with(shape="(" * 3000 + ")" * 3000), "array"),
        (header_with(shape="(" + "9" * 5000 + ",)"), "array"),
    ],
)
def test_a_header_that_is_not_one_is_refused_and_says_which_part(npy, text, says, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_npy(npy, counted(2, 3), header_text=text)
    with pytest.raises(HeaderError, match=says) as error:
        emio.imload(npy)
    assert str(npy) in str(error.value)
    assert os.listdir(tmp_path) == [npy.name]


@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (5, 0), (2, 0, 3)])
def test_an_array_without_pixels_is_refused(npy, shape):
    np.save(npy, np.zeros(shape))
    with pytest.raises(HeaderError, match=r"array\.npy.*no pixels"):
        emio.imload(npy)


@pytest.mark.parametrize(
    ("shape", "needed"),
    [((2, 4), 8), ((7,), 7), ((2**40, 2**40), 2**80), ((2**63, 2), 2**64), ((1, 10**30), 10**30)],
)
@pytest.mark.parametrize("fortran_order", [False, True])
def test_a_file_of_fewer_elements_than_it_says_is_refused(npy, shape, needed, fortran_order):
    write_npy(npy, counted(2, 3), shape=shape, fortran_order=fortran_order)
    with pytest.raises(TruncatedError, match=rf"array\.npy: holds 6 elements, the header says {needed} "):
        emio.imload(npy)


@pytest.mark.parametrize(("size", "held"), [(139, 5), (138, 5), (130, 1), (128, 0)])
def test_a_half_copied_file_is_refused(npy, size, held):
    npy.write_bytes(WORKED[:size])
    with pytest.raises(TruncatedError, match=f"holds {held} elements, the header says 6"):
        emio.imload(npy)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"gone\.npy"):
        emio.imload(tmp_path / "gone.npy")


def test_an_archive_of_arrays_is_refused_and_its_members_are_listed(tmp_path):
    path = tmp_path / "arrays.npz"
    (tmp_path / "copies").mkdir()
    np.savez(path, dark=counted(2, 3), bright=counted(2, 3))
    for name in ("arrays.npz", "arrays", "arrays.zip"):
        with pytest.raises(HeaderError, match=r"arrays.*dark, bright.*numpy\.load\(\.\.\.\)\['name'\]"):
            emio.imload(shutil.copy(path, tmp_path / "copies" / name))


def test_an_archive_that_is_called_npy_is_refused(tmp_path):
    for number, arrays in enumerate([{}, {"dark": counted(2, 3)}]):
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        path = tmp_path / f"{number}.npy"
        path.write_bytes(buffer.getvalue())
        with pytest.raises(HeaderError, match=r"npz.*numpy\.load"):
            emio.imload(path)


def test_a_broken_archive_is_refused(npy):
    npy.write_bytes(b"PK\3\4 and nothing else")
    with pytest.raises(HeaderError, match="npz"):
        emio.imload(npy)


@settings(max_examples=200, deadline=None)
@given(changes=st.dictionaries(st.integers(6, 69), st.integers(0, 255), min_size=1, max_size=4))
def test_any_header_is_either_read_or_refused_by_name(tmp_path_factory, changes):
    content = bytearray(WORKED)
    for at, value in changes.items():
        content[at] = value
    path = tmp_path_factory.getbasetemp() / "changed.npy"
    path.write_bytes(content)
    try:
        ds = emio.imload(path, sig_dims=1)
    except emio.EmioError as error:
        refusal = str(error)
        ds = None
    if ds is None:
        assert "changed.npy" in refusal
    else:
        assert ds.image.compute().size <= 12


# Laziness ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="files are not sparse by default")
@pytest.mark.parametrize("fortran_order", [False, True])
def test_two_hundred_gigabytes_open_at_once(npy, fortran_order):
    shape = (640, 640, 512, 512)
    write_npy(npy, counted(2, 3), shape=shape, fortran_order=fortran_order)
    os.truncate(npy, 128 + 2 * 640 * 640 * 512 * 512)
    with open(npy, "r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"\x2a\0")
    image = emio.imload(npy).image
    assert image.nbytes > 200e9
    assert len(image.__dask_graph__()) < 20_000
    assert int(image[-1, -1, -1, -1]) == 42


@pytest.mark.parametrize("chunks", ["auto", (4, 4, -1, -1)])
def test_the_graph_carries_names_and_not_the_array(npy, chunks):
    np.save(npy, np.zeros((64, 64, 32, 32), "u2"))
    image = emio.imload(npy, chunks=chunks).image
    assert len(pickle.dumps(image)) < 400_000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image)).sum(), 0)


# Writing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [False, True])
def test_the_file_worked_by_hand_is_written(npy, lazy):
    array = np.array([[1, 2, 3], [4, 5, 600]], "<u2")
    assert emio.imsave(da.from_array(array, chunks=(1, 2)) if lazy else array, npy) == [str(npy)]
    assert npy.read_bytes() == WORKED


@pytest.mark.parametrize("dtype", ["u1", "u8", "i2", "f2", "f4", "f8", "c8", "c16", "?", ">u2", ">f8", ">c8"])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 3, 4, 5)])
@pytest.mark.filterwarnings("ignore:.*names of the axes:intake_emio.errors.EmioWarning")
def test_numpy_loads_what_is_written(npy, dtype, shape):
    array = counted(*shape, dtype=dtype)
    emio.imsave(array, npy)
    loaded = np.load(npy)
    assert loaded.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(loaded, array)
    assert npy.read_bytes()[6:8] == b"\1\0"
    assert b"'fortran_order': False" in npy.read_bytes()[:128]


@pytest.mark.parametrize("order", list(map("".join, itertools.permutations("iyx"))))
def test_the_order_of_the_axes_is_that_of_the_image(npy, order):
    image = emio.to_xarray(counted(2, 3, 4), axes="iyx").transpose(*order)
    if order == "iyx":
        emio.imsave(image, npy)
    else:
        with pytest.warns(emio.EmioWarning, match=r"names of the axes.*\.zarr"):
            emio.imsave(image, npy)
    np.testing.assert_array_equal(np.load(npy), image)


@pytest.mark.parametrize("dims", DIMS.values())
def test_dims_that_come_back_by_themselves_need_no_warning(npy, dims):
    image = emio.to_xarray(counted(*range(1, 1 + len(dims))), axes=dims)
    emio.imsave(image, npy)
    xr.testing.assert_equal(emio.imload(npy).image, image)


def test_one_warning_says_what_is_lost_and_which_format_keeps_it(npy):
    image = emio.to_xarray(counted(2, 3, 4), axes="tyx", spacing={"x": 2.0}, spacing_units={"x": "nm"})
    with pytest.warns(emio.EmioWarning) as record:
        emio.imsave(image, npy)
    (message,) = [str(w.message) for w in record]
    assert str(npy) in message
    assert "calibration and units" in message
    assert "names of the axes" in message
    assert ".zarr" in message
    np.testing.assert_array_equal(np.load(npy), image)


def test_an_rgb_image_stays_a_plain_array(npy):
    image = emio.to_xarray(counted(4, 5, 3, dtype="u1"), axes="yxc", coords={"c": ["r", "g", "b"]})
    with pytest.warns(emio.EmioWarning):
        emio.imsave(image, npy)
    assert np.load(npy).dtype == np.uint8
    np.testing.assert_array_equal(np.load(npy), image)


def test_every_variable_of_a_dataset_has_its_own_file(tmp_path):
    ds = xr.Dataset({"image": (tuple("yxvu"), counted(2, 3, 4, 5)), "navigator": (("y", "x"), counted(2, 3))})
    names = emio.imsave(ds, tmp_path / "scan.npy")
    assert [os.path.basename(name) for name in names] == ["scan.var_image.npy", "scan.var_navigator.npy"]
    np.testing.assert_array_equal(np.load(names[0]), ds.image)
    np.testing.assert_array_equal(np.load(names[1]), ds.navigator)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_an_array_without_pixels_is_written_though_it_cannot_be_read_as_an_image(npy, shape):
    emio.imsave(emio.to_xarray(np.zeros(shape, "u2"), axes=DIMS[len(shape)]), npy)
    assert np.load(npy).shape == shape


@pytest.mark.parametrize("dtype", ["O", "U3", "S2", "M8[s]", "m8[s]", "V4"])
def test_what_is_no_number_is_refused(npy, dtype):
    with pytest.raises(ArgumentError, match="not pixels"):
        emio.imsave(np.zeros((2, 3), dtype), npy)
    assert os.listdir(npy.parent) == []


class Observed:
    """Array that notes which of its blocks are asked for."""

    shape, dtype, ndim = (8, 6, 4), np.dtype("<u2"), 3

    def __init__(self):
        self.asked = []

    def __getitem__(self, key):
        self.asked.append(tuple((k.start, k.stop) for k in key))
        return counted(*self.shape)[key]


def test_a_lazy_image_is_computed_once_and_block_by_block(npy):
    source = Observed()
    image = da.from_array(source, chunks=(2, 3, 4), asarray=False, meta=np.empty((0,) * 3, "u2"))
    emio.imsave(emio.to_xarray(image, axes="iyx"), npy)
    assert len(source.asked) == len(set(source.asked)) == 8
    np.testing.assert_array_equal(np.load(npy), counted(8, 6, 4))


def test_an_existing_file_is_not_replaced_unless_asked(npy):
    npy.write_bytes(b"precious")
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        emio.imsave(counted(2, 3), npy)
    assert npy.read_bytes() == b"precious"
    emio.imsave(counted(2, 3), npy, overwrite=True)
    np.testing.assert_array_equal(np.load(npy), counted(2, 3))


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_save_that_fails_halfway_leaves_the_old_file_as_it_was(npy, failure):
    def fail(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 1:
            raise failure("detector on fire")
        return block

    npy.write_bytes(b"precious")
    image = da.from_array(counted(2, 3, 4), chunks=(1, 3, 4)).map_blocks(fail, meta=np.empty((0,) * 3, "u2"))
    with dask.config.set(scheduler="synchronous"), pytest.raises(failure):
        emio.imsave(emio.to_xarray(image, axes="iyx"), npy, overwrite=True)
    assert os.listdir(npy.parent) == [npy.name]
    assert npy.read_bytes() == b"precious"


def test_a_file_can_be_saved_over_itself(npy):
    np.save(npy, counted(4, 5))
    emio.imsave(emio.imload(npy).image + 1, npy, overwrite=True)
    np.testing.assert_array_equal(np.load(npy), counted(4, 5) + 1)


@pytest.mark.parametrize("compress", [None, True, False])
def test_compress_makes_no_difference(npy, compress):
    emio.imsave(np.array([[1, 2, 3], [4, 5, 600]], "<u2"), npy, compress=compress)
    assert npy.read_bytes() == WORKED


# Other readers -------------------------------------------------------------------------------------------------------


@pytest.mark.peers
@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("fortran_order", [False, True])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_rosettasciio_reads_the_same(npy, shape, fortran_order, version):
    reader = pytest.importorskip("rsciio.numpy")
    write_npy(npy, counted(*shape), fortran_order=fortran_order, version=version)
    (theirs,) = reader.file_reader(str(npy), lazy=False)
    np.testing.assert_array_equal(emio.imload(npy).image, theirs["data"])


@pytest.fixture(scope="module")
def libertem():
    """LiberTEM's frames of a NumPy file: missing ones are zero."""
    api = pytest.importorskip("libertem.api")
    udf = pytest.importorskip("libertem.udf.raw")
    context = api.Context.make_with("inline")

    def read(path, **arguments):
        dataset = context.load("npy", path=str(path), **arguments)
        roi = np.ones(tuple(dataset.shape.nav), bool)
        picked = context.run_udf(dataset, udf.PickUDF(), roi=roi)["intensity"].data
        return picked.reshape(tuple(dataset.shape))

    return read


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<f4"])
def test_libertem_reads_the_same_types(npy, libertem, dtype):
    np.save(npy, counted(2, 3, 4, 5, dtype=dtype))
    np.testing.assert_array_equal(emio.imload(npy).image, libertem(npy))


@pytest.mark.peers
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"nav_shape": (1, 1)},
        {"nav_shape": (3, 3)},
        {"sig_shape": (2, 2), "nav_shape": (2, 3)},
        {"sig_shape": (2, 2)},
        {"sync_offset": 1},
        {"sync_offset": -1},
    ],
)
@pytest.mark.filterwarnings("ignore::intake_emio.errors.EmioWarning")
def test_libertem_cuts_the_stream_in_the_same_way(npy, libertem, arguments):
    np.save(npy, STACK)
    np.testing.assert_array_equal(emio.imload(npy, **arguments).image, libertem(npy, **arguments))
