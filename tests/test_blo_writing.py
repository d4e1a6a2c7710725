"""Writing NanoMegas blockfiles."""

import math
import os
import struct

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import intake_emio as emio
from intake_emio.errors import ArgumentError, TargetExistsError

from .encoders.blo import HEADER_FIELDS, write_blo
from .test_blo import WORKED

# What RosettaSciIO writes where no start is known: 1970-01-02
NO_START = 25570.0


def scan(pixels, steps=(4, 2.5, 0.02, 0.02), units=("nm", "nm", "cm", "cm"), axes="yxvu"):
    """Dataset of a scan; a step of None leaves that axis without coordinate."""
    spacing = dict(zip(axes, steps, strict=True))
    known = {a: u for a, u in zip(axes, units, strict=True) if spacing[a] is not None}
    return emio.to_xarray(pixels, axes=axes, spacing=spacing, spacing_units=known).to_dataset(name="image")


def numbered(ny=2, nx=3, size=2):
    return np.arange(ny * nx * size * size, dtype="u1").reshape(ny, nx, size, size)


def header_of(path, byte_order="<"):
    """Fields of a written header, read with nothing but the layout."""
    content = np.frombuffer(path.read_bytes(), np.dtype(HEADER_FIELDS).newbyteorder(byte_order), 1)[0]
    return {name: content[name] for name in content.dtype.names}


def written(path, image, **how):
    """Pixels and navigator of what is written, as bytes at the places where the layout has them."""
    assert emio.imsave(image, path, **how) == [str(path)]
    content, header = path.read_bytes(), header_of(path, how.get("endianess", "<"))
    points, size = int(header["NX"]) * int(header["NY"]), int(header["DP_SZ"])
    frames = np.frombuffer(content, "u1", points * (6 + size * size), int(header["Data_offset_2"]))
    pixels = frames.reshape(points, 6 + size * size)[:, 6:]
    return pixels.reshape(-1), np.frombuffer(content, "u1", points, int(header["Data_offset_1"]))


@pytest.fixture
def blo(tmp_path):
    return tmp_path / "saved.blo"


# Layout --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [False, True])
def test_the_file_worked_by_hand_is_written(blo, lazy):
    pixels = da.from_array(numbered(), chunks=(1, 2, 1, 2)) if lazy else numbered()
    assert emio.imsave(scan(pixels), blo) == [str(blo)]
    assert len(blo.read_bytes()) == 4172
    assert blo.read_bytes() == WORKED


@pytest.mark.parametrize("endianess", ["<", ">"])
@pytest.mark.parametrize(("ny", "nx", "size"), [(2, 3, 2), (3, 2, 5), (1, 1, 1), (16, 2, 3), (5, 7, 1)])
def test_every_number_has_the_byte_order_asked_for(tmp_path, endianess, ny, nx, size):
    pixels = np.random.default_rng(1).integers(0, 256, (ny, nx, size, size), "u1")
    bright = pixels.reshape(ny, nx, -1).mean(-1).astype("u1")
    emio.imsave(scan(pixels), tmp_path / "ours.blo", endianess=endianess)
    write_blo(
        tmp_path / "encoded.blo",
        pixels,
        byte_order=endianess,
        steps=(4 if ny > 1 else 0, 2.5 if nx > 1 else 0),
        pixels_per_cm_x100=5000 if size > 1 else 0,
        navigator=bright,
        acquisition_time=NO_START,
    )
    assert (tmp_path / "ours.blo").read_bytes() == (tmp_path / "encoded.blo").read_bytes()


def test_frames_begin_at_a_multiple_of_16(blo):
    emio.imsave(np.zeros((2, 3, 1, 1), "u1"), blo)  # 4096 + 6
    assert header_of(blo)["Data_offset_2"] == 4112
    emio.imsave(np.zeros((4, 4, 1, 1), "u1"), blo, overwrite=True)  # 4096 + 16
    assert header_of(blo)["Data_offset_2"] == 4112


@pytest.mark.parametrize(
    ("shape", "ny", "nx"), [((4, 4), 1, 1), ((3, 4, 4), 1, 3), ((2, 3, 4, 4), 2, 3), ((1, 1, 4, 4), 1, 1)]
)
def test_none_one_or_two_navigation_axes_are_a_scan(blo, shape, ny, nx):
    pixels = np.random.default_rng(2).integers(0, 256, shape, "u1")
    emio.imsave(pixels, blo)
    header = header_of(blo)
    assert (header["NY"], header["NX"], header["DP_SZ"]) == (ny, nx, 4)
    np.testing.assert_array_equal(emio.imload(blo).image, pixels.reshape(ny, nx, 4, 4))


@pytest.mark.parametrize("order", ["yxvu", "xyvu", "vuyx", "uvxy", "vyux"])
def test_a_dataset_is_written_the_same_whatever_order_its_axes_have(blo, order):
    ds = scan(numbered())
    ds["navigator"] = ("y", "x"), np.array([[1, 5, 9], [13, 17, 21]], "u1")
    emio.imsave(ds.transpose(*order), blo)
    assert blo.read_bytes() == WORKED


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 5), (5,), (2, 4, 5)])
def test_patterns_that_are_not_square_are_refused(blo, shape):
    with pytest.raises(ArgumentError, match="square"):
        emio.imsave(np.zeros(shape, "u1"), blo)
    assert os.listdir(blo.parent) == []


def test_several_scans_become_several_files(tmp_path):
    scans = np.arange(2 * 2 * 3 * 4 * 4, dtype="u1").reshape(2, 2, 3, 4, 4)
    written = emio.imsave(xr.DataArray(scans, dims=tuple("iyxvu")), tmp_path / "saved.blo")
    assert [os.path.basename(path) for path in written] == ["saved.i_0.blo", "saved.i_1.blo"]
    for path, pixels in zip(written, scans, strict=True):
        np.testing.assert_array_equal(emio.imload(path).image.values, pixels)


def test_a_scan_as_long_as_the_header_can_count_is_written(blo):
    emio.imsave(np.zeros((65535, 1, 1), "u1"), blo)
    assert header_of(blo)["NX"] == 65535
    assert blo.stat().st_size == 4096 + 65536 + 65535 * 7


@pytest.mark.parametrize("shape", [(65536, 1, 1), (65536, 1, 1, 1), (0, 3, 2, 2), (3, 3, 0, 0)])
def test_a_scan_that_the_header_cannot_count_is_refused(blo, shape):
    with pytest.raises(ArgumentError, match="65535"):
        emio.imsave(np.zeros(shape, "u1"), blo)


@pytest.mark.parametrize("scaling", [None, "minmax"])
@pytest.mark.parametrize(("dtype", "named"), [("c8", "complex64"), ("M8[s]", "datetime64"), ("U1", "<U1")])
def test_what_is_no_real_number_is_refused(blo, dtype, named, scaling):
    with pytest.raises(ArgumentError, match=named):
        emio.imsave(np.zeros((2, 2), dtype), blo, intensity_scaling=scaling)


@pytest.mark.parametrize("endianess", ["big", "=", None])
def test_another_endianess_is_refused(blo, endianess):
    with pytest.raises(ArgumentError, match="endianess"):
        emio.imsave(numbered(), blo, endianess=endianess)


# Header fields -------------------------------------------------------------------------------------------------------


def test_what_the_header_of_the_original_said_is_carried_over(tmp_path, blo):
    fields = {
        "UNKNOWN1": 131135,
        "DP_rotation": 11,
        "Scan_rotation": 2500,
        "Beam_energy": 200_001,
        "Camera_length": 2003,
        "Acquisition_time": 42339.653470046294,
        **{f"Centering_N{k}": k + 0.1 for k in range(8)},
        **{f"Distortion_N{k:02}": k + 0.7 for k in range(14)},
    }
    original = write_blo(tmp_path / "original.blo", numbered(), header=fields, note="Camera gamma : on\r\n\xb5")
    emio.imsave(emio.imload(original), blo)
    header = header_of(blo)
    assert {name: header[name] for name in fields} == fields
    assert blo.read_bytes()[240:].startswith(b"Camera gamma : on\r\n\xb5\0")


def test_a_blockfile_survives_loading_and_saving_unchanged(tmp_path, blo):
    original = write_blo(
        tmp_path / "original.blo",
        numbered(),
        steps=(12.8, 3.1),
        pixels_per_cm_x100=6226,
        beam_energy=300_000,
        camera_length=1234,
        acquisition_time=42339.653470046294,
        note="Precession angle : 0.5\r\n",
        navigator=[[200, 100, 0], [1, 2, 3]],
    )
    emio.imsave(emio.imload(original), blo)
    assert blo.read_bytes() == original.read_bytes()


def test_facts_of_other_formats_go_into_the_header(blo):
    facts = {"beam_energy": 200.0, "camera_length": 123.4, "start_time": "2015-12-01T15:40:59.812", "title": "Gold é"}
    emio.imsave(scan(numbered()).assign_attrs(acquisition=facts), blo)
    header = header_of(blo)
    assert header["Beam_energy"] == 200_000
    assert header["Camera_length"] == 1234
    assert header["Acquisition_time"] == pytest.approx(42339.653470046294, abs=1e-8)
    assert blo.read_bytes()[240:].startswith(b"Gold \xe9\0")


@pytest.mark.parametrize("start", [None, "", "yesterday"])
def test_without_a_start_the_date_is_the_one_that_rosettasciio_writes(blo, start):
    emio.imsave(scan(numbered()).assign_attrs(acquisition={"start_time": start}), blo)
    assert header_of(blo)["Acquisition_time"] == NO_START


def test_without_a_blockfile_behind_it_everything_else_is_zero(blo):
    emio.imsave(numbered(), blo)
    header = header_of(blo)
    known = {"ID", "MAGIC", "Data_offset_1", "Data_offset_2", "UNKNOWN1", "DP_SZ", "NX", "NY", "Acquisition_time"}
    assert {name for name, value in header.items() if value} == known
    assert (header["ID"], header["MAGIC"], header["Data_offset_1"]) == (b"IMGBLO", 258, 4096)
    assert header["UNKNOWN1"] == 131141


def test_a_long_note_is_cut_before_the_navigator(blo):
    ds = scan(numbered()).assign_attrs(acquisition={"title": "n" * 5000})
    emio.imsave(ds, blo, navigator=np.full((2, 3), 7))
    content = blo.read_bytes()
    assert content[240:4096] == b"n" * 3856
    assert content[4096:4112] == b"\7" * 6 + bytes(10)


def test_what_latin_1_cannot_say_does_not_stop_the_note(blo):
    emio.imsave(scan(numbered()).assign_attrs(acquisition={"title": "gold 金"}), blo)
    assert blo.read_bytes()[240:246] == b"gold ?"


# Calibration ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "units", "nm"),
    [
        (4, "nm", 4),
        (0.004, "µm", 4),
        (0.004, "um", 4),
        (40, "Å", 4),
        (4000, "pm", 4),
        (4e-6, "mm", 4),
        (4e-7, "cm", 4),
        (4e-9, "m", 4),
        (0.1, "nm", 0.1),
    ],
)
def test_scan_steps_are_converted_to_nm(blo, step, units, nm):
    emio.imsave(scan(numbered(), (step, 2 * step, 0.02, 0.02), (units, units, "cm", "cm")), blo)
    header = header_of(blo)
    assert header["SY"] == pytest.approx(nm, rel=1e-14)
    assert header["SX"] == pytest.approx(2 * nm, rel=1e-14)


@pytest.mark.parametrize(
    ("pixel", "units", "density"),
    [
        (0.02, "cm", 5000),
        (0.2, "mm", 5000),
        (200, "µm", 5000),
        (0.016061676839, "cm", 6226),
        (0.00003, "m", 33333),
        (0.0151, "cm", 6623),  # 6622.5: truncation would give 6622
        (100, "cm", 1),
        (100 / 65535, "cm", 65535),
    ],
)
def test_detector_pixels_are_rounded_to_hundredths_per_cm(blo, pixel, units, density):
    emio.imsave(scan(numbered(), (4, 2.5, pixel, pixel), ("nm", "nm", units, units)), blo)
    assert header_of(blo)["SDP"] == density
    read = float(emio.imload(blo).u[1])
    in_cm = pixel * {"cm": 1, "mm": 0.1, "µm": 1e-4, "m": 100}[units]
    assert read == pytest.approx(in_cm, rel=1 / (2 * density) + 1e-12)


@pytest.mark.parametrize("pixel", [1000, 0.001])
def test_detector_pixels_that_cannot_be_counted_are_left_out_with_a_warning(blo, pixel):
    with pytest.warns(emio.EmioWarning, match="detector pixels"):
        emio.imsave(scan(numbered(), (4, 2.5, pixel, pixel)), blo)
    assert header_of(blo)["SDP"] == 0


@pytest.mark.parametrize(
    ("axis", "field"), [("y", "SY"), ("x", "SX"), ("v", "SDP")], ids=["scan rows", "scan columns", "detector"]
)
@pytest.mark.parametrize("units", ["1/nm", "mrad", "s", "parsec"])
def test_units_that_are_no_length_are_left_out_with_a_warning(blo, axis, field, units):
    all_units = {**dict(zip("yxvu", ("nm", "nm", "cm", "cm"), strict=True)), axis: units}
    with pytest.warns(emio.EmioWarning, match=units):
        emio.imsave(scan(numbered(), units=tuple(all_units.values())), blo)
    header = header_of(blo)
    assert {name for name in ("SY", "SX", "SDP") if not header[name]} == {field}


def test_steps_without_units_are_left_out_with_a_warning(blo):
    ds = scan(numbered())
    ds = ds.assign_coords(y=("y", [0.0, 4.0]))
    with pytest.warns(emio.EmioWarning, match="'y'"):
        emio.imsave(ds, blo)
    assert header_of(blo)["SY"] == 0


def test_missing_steps_are_zero(blo):
    emio.imsave(scan(numbered(), (None, 2.5, None, None)), blo)
    header = header_of(blo)
    assert (header["SY"], header["SX"], header["SDP"]) == (0, 2.5, 0)


def test_uneven_coordinates_and_origins_are_lost_with_one_warning(blo):
    ds = scan(numbered()).assign_coords(x=("x", [0.0, 1.0, 5.0], {"units": "nm"}), y=("y", [7.0, 9.0], {"units": "nm"}))
    with pytest.warns(emio.EmioWarning, match=r"saved\.blo.*origin of y.*uneven coordinates of x") as record:
        emio.imsave(ds, blo)
    assert len(record) == 1
    assert (header_of(blo)["SX"], header_of(blo)["SY"]) == (0, 2)


@pytest.mark.parametrize("labels", [["gold"], ["gold", "carbon"]])
def test_names_along_the_navigation_axis_are_lost_with_a_warning(blo, labels):
    ds = xr.Dataset({"image": (("i", "y", "x"), numbered()[0, : len(labels)])}, {"i": labels})
    with pytest.warns(emio.EmioWarning, match="of i"):
        emio.imsave(ds, blo)
    assert header_of(blo)["NX"] == len(labels)


# Intensities ---------------------------------------------------------------------------------------------------------

UNSIGNED = np.array([0, 1, 50, 99, 100, 127, 200, 255, 300, 1000, 65535], "u2")
SIGNED = np.array([-5, -1, 0, 3], "i2")


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("values", "scaling", "expected"),
    [
        (UNSIGNED, "crop", [0, 1, 50, 99, 100, 127, 200, 255, 255, 255, 255]),
        (UNSIGNED, (5, 200), [0, 0, 58, 122, 124, 159, 255, 255, 255, 255, 255]),
        (UNSIGNED, [5, 200], [0, 0, 58, 122, 124, 159, 255, 255, 255, 255, 255]),
        (UNSIGNED, (np.uint16(5), np.float32(200)), [0, 0, 58, 122, 124, 159, 255, 255, 255, 255, 255]),
        (UNSIGNED, "dtype", [0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 255]),
        (UNSIGNED, "minmax", [0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 255]),
        (SIGNED, "minmax", [0, 127, 159, 255]),
        (SIGNED, "dtype", [127, 127, 127, 127]),
        (SIGNED, "crop", [0, 0, 0, 3]),
        (np.array([-1, -0.5, 0, 0.5, 1]), (-1, 1), [0, 63, 127, 191, 255]),
        (np.array([0, 0.5, 1], "f4"), "minmax", [0, 127, 255]),
        (np.array([False, True]), "minmax", [0, 255]),
        (np.array([7, 7], "u2"), "minmax", [7, 7]),  # constant: clipped, not scaled
        (np.array([1000, 1000], "u2"), "minmax", [255, 255]),
        (np.array([-3, -3], "i4"), "minmax", [0, 0]),
        (np.array([0, 200, 255], "u1"), "dtype", [0, 200, 255]),
        (np.array([2**63 - 1, -(2**63)], "i8"), "dtype", [255, 0]),
    ],
)
def test_intensities_are_stretched_as_asked(blo, values, scaling, expected, lazy):
    image = values.reshape(-1, 1, 1)
    image = da.from_array(image, chunks=(1, 1, 1)) if lazy else image
    pixels, _ = written(blo, image, intensity_scaling=scaling, navigator=None)
    assert pixels.tolist() == expected


def test_whole_numbers_from_0_to_255_are_never_changed_by_crop(blo):
    pixels, _ = written(blo, np.arange(256.0).reshape(-1, 1, 1), intensity_scaling="crop")
    assert pixels.tolist() == list(range(256))


@given(
    value=st.floats(-1e6, 1e6),
    limits=st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)).filter(lambda pair: pair[1] - pair[0] > 1e-3),
)
def test_any_range_is_stretched_by_the_formula(tmp_path_factory, value, limits):
    low, high = limits
    path = tmp_path_factory.getbasetemp() / "stretched.blo"
    image = np.array([[[value]]])
    pixels, _ = written(path, image, intensity_scaling=limits, navigator=None, overwrite=True)
    assert pixels.tolist() == [math.floor((min(max(value, low), high) - low) / (high - low) * 255)]


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i8", "u8", "f2", "f4", "f8", ">u2", ">f4"])
def test_whole_numbers_that_fit_need_no_scaling(blo, dtype):
    pixels, _ = written(blo, np.array([0, 1, 128, 255]).astype(dtype).reshape(-1, 1, 1))
    assert pixels.tolist() == [0, 1, 128, 255]


def test_bools_need_no_scaling(blo):
    pixels, _ = written(blo, np.array([True, False]).reshape(-1, 1, 1))
    assert pixels.tolist() == [1, 0]


@pytest.mark.parametrize(
    "values",
    [
        np.array([0, 256], "u2"),
        np.array([-1, 5], "i2"),
        np.array([0.5]),
        np.array([np.nan]),
        np.array([np.inf]),
        np.array([255.0001]),
        np.array([2**40], "u8"),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_what_does_not_fit_is_refused_and_the_options_are_named(blo, values, lazy):
    image = values.reshape(-1, 1, 1)
    image = da.from_array(image, chunks=(1, 1, 1)) if lazy else image
    with pytest.raises(ArgumentError, match=r"intensity_scaling='minmax', 'dtype', 'crop' or \(low, high\)"):
        emio.imsave(image, blo)
    assert os.listdir(blo.parent) == []


@pytest.mark.parametrize(
    "scaling",
    [
        (5, 5),
        (9, 5),
        (math.nan, 5),
        (5, math.nan),
        (-math.inf, math.inf),
        ("0", "5"),
        (None, 5),
        (1, 2, 3),
        (1,),
        5,
        "",
        "auto",
        "(0, 5)",
        True,
        {0: 1, 2: 3},
    ],
)
def test_a_scaling_that_makes_no_sense_is_refused(blo, scaling):
    with pytest.raises(ArgumentError, match="intensity_scaling"):
        emio.imsave(numbered(), blo, intensity_scaling=scaling)
    assert os.listdir(blo.parent) == []


@pytest.mark.parametrize("dtype", ["f4", "f8", "?"])
def test_the_range_of_a_type_that_has_none_is_refused(blo, dtype):
    with pytest.raises(ArgumentError, match="'dtype'"):
        emio.imsave(np.zeros((2, 2), dtype), blo, intensity_scaling="dtype")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_minmax_of_what_is_not_finite_is_refused(blo, value):
    with pytest.raises(ArgumentError, match="minmax"):
        emio.imsave(np.array([[0, 1000], [value, 1]]), blo, intensity_scaling="minmax")


# Navigator -----------------------------------------------------------------------------------------------------------


def test_without_a_navigator_the_mean_of_every_pattern_is_stored(blo):
    image = np.array([[[[0, 1], [1, 1]], [[255, 255], [255, 254]]]], "u1")  # means 0.75 and 254.75
    _, bright = written(blo, image)
    assert bright.tolist() == [0, 254]


def test_the_navigator_of_the_dataset_is_stored(blo):
    ds = scan(numbered())
    ds["navigator"] = ("y", "x"), np.array([[6, 5, 4], [3, 2, 1]], "u1")
    _, bright = written(blo, ds)
    assert bright.tolist() == [6, 5, 4, 3, 2, 1]


def test_a_navigator_beside_one_navigation_axis_is_stored(blo):
    ds = scan(numbered())
    ds["navigator"] = ("y", "x"), np.array([[6, 5, 4], [3, 2, 1]], "u1")
    _, bright = written(blo, ds.isel(y=1))
    assert bright.tolist() == [3, 2, 1]


@pytest.mark.parametrize("navigator", [np.array([[6, 5, 4], [3, 2, 1]]), da.from_array([[6.9, 5, 4], [3, 2, 1]])])
def test_an_array_as_navigator_is_stored_and_fractions_are_cut(blo, navigator):
    _, bright = written(blo, numbered(), navigator=navigator)
    assert bright.tolist() == [6, 5, 4, 3, 2, 1]


def test_no_navigator_is_zeros(blo):
    ds = scan(numbered())
    ds["navigator"] = ("y", "x"), np.ones((2, 3), "u1")
    _, bright = written(blo, ds, navigator=None)
    assert bright.tolist() == [0] * 6


def test_the_navigator_is_scaled_like_the_pixels(blo):
    image = np.array([[[0, 100], [100, 200]], [[400, 400], [400, 1000]]], "u2")  # means 100 and 550
    _, bright = written(blo, image, intensity_scaling=(0, 1000))
    assert bright.tolist() == [25, 140]  # 25.5 and 140.25
    _, bright = written(blo, image, intensity_scaling=(0, 1000), navigator=np.array([[500, 2000]]), overwrite=True)
    assert bright.tolist() == [127, 255]


@pytest.mark.parametrize("shape", [(3, 2), (6,), (2, 3, 1), (2, 2), ()])
def test_a_navigator_of_another_shape_is_refused(blo, shape):
    with pytest.raises(ArgumentError, match=r"navigator.*\(2, 3\)"):
        emio.imsave(numbered(), blo, navigator=np.zeros(shape, "u1"))


@pytest.mark.parametrize("value", [256, -1, 1000.5, np.nan])
def test_a_navigator_that_bytes_cannot_hold_is_refused(blo, value):
    with pytest.raises(ArgumentError, match="navigator"):
        emio.imsave(numbered(), blo, navigator=np.full((2, 3), value))


def test_a_navigator_that_does_not_exist_is_refused(blo):
    with pytest.raises(ArgumentError, match="'bright_field'"):
        emio.imsave(numbered(), blo, navigator="bright_field")


# Laziness ------------------------------------------------------------------------------------------------------------


class Observed:
    """Array that notes which of its blocks are asked for."""

    shape, dtype, ndim = (4, 6, 8, 8), np.dtype("u2"), 4

    def __init__(self):
        self.asked = []

    def __getitem__(self, key):
        self.asked.append(tuple((k.start, k.stop) for k in key))
        return np.random.default_rng(0).integers(0, 256, self.shape, "u2")[key]


@pytest.mark.parametrize(
    ("scaling", "passes"), [(None, 1), ("crop", 1), ("dtype", 1), ((0, 100), 1), ("minmax", 2)], ids=str
)
@pytest.mark.parametrize("chunks", [(2, 3, 8, 8), (4, 1, 8, 8), (2, 2, 4, 3)])
def test_a_chunk_is_computed_once_for_pixels_and_means(blo, chunks, scaling, passes):
    source = Observed()
    image = da.from_array(source, chunks=chunks, asarray=False, meta=np.empty((0,) * 4, "u2"))
    emio.imsave(emio.to_xarray(image, axes="yxvu"), blo, intensity_scaling=scaling)
    assert len(source.asked) == passes * math.prod(image.numblocks)
    assert len(set(source.asked)) == math.prod(image.numblocks)


def test_lazy_and_loaded_images_make_the_same_file(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 3000, (5, 7, 6, 6), "u2")
    for name, image in (("a", pixels), ("b", da.from_array(pixels, chunks=(2, 3, 4, 5)))):
        emio.imsave(image, tmp_path / f"{name}.blo", intensity_scaling="minmax", show_progressbar=False)
    assert (tmp_path / "a.blo").read_bytes() == (tmp_path / "b.blo").read_bytes()


def test_a_stack_is_written_lazily_too(blo):
    pixels = numbered().reshape(6, 2, 2)
    emio.imsave(da.from_array(pixels, chunks=(4, 2, 1)), blo)
    np.testing.assert_array_equal(emio.imload(blo).image[0], pixels)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_any_scheduler_writes_the_same_file(blo, scheduler):
    with dask.config.set(scheduler=scheduler):
        emio.imsave(scan(da.from_array(numbered(), chunks=(1, 1, 2, 2))), blo)
    assert blo.read_bytes() == WORKED


# All or nothing ------------------------------------------------------------------------------------------------------


def test_an_existing_file_is_not_replaced_unless_asked(blo):
    blo.write_bytes(b"precious")
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        emio.imsave(numbered(), blo)
    assert blo.read_bytes() == b"precious"
    emio.imsave(scan(numbered()), blo, overwrite=True)
    assert blo.read_bytes() == WORKED


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_save_that_fails_halfway_leaves_the_old_file_as_it_was(blo, failure):
    def fail(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 1:
            raise failure("detector on fire")
        return block

    blo.write_bytes(b"precious")
    image = da.from_array(numbered(), chunks=(1, 3, 2, 2)).map_blocks(fail, meta=np.empty((0,) * 4, "u1"))
    with dask.config.set(scheduler="synchronous"), pytest.raises(failure):
        emio.imsave(image, blo, overwrite=True)
    assert os.listdir(blo.parent) == [blo.name]
    assert blo.read_bytes() == b"precious"


def test_a_file_can_be_saved_over_itself(blo):
    blo.write_bytes(WORKED)
    emio.imsave(emio.imload(blo), blo, overwrite=True)
    assert blo.read_bytes() == WORKED


def test_the_image_handed_over_is_not_changed(blo):
    ds = scan(numbered().astype("u2"))
    ds["navigator"] = ("y", "x"), np.ones((2, 3), "u2")
    before = ds.copy(deep=True)
    emio.imsave(ds, blo, intensity_scaling="minmax", endianess=">")
    xr.testing.assert_identical(ds, before)


def test_a_refusal_names_the_file_that_the_user_asked_for(blo):
    with pytest.raises(ArgumentError) as error:
        emio.imsave(np.full((2, 2), 300), blo)
    assert str(blo) in str(error.value)


def test_an_unknown_argument_is_a_type_error_that_names_the_known_ones(blo):
    with pytest.raises(TypeError, match=r"colour.*intensity_scaling"):
        emio.imsave(numbered(), blo, colour="red")
    assert os.listdir(blo.parent) == []


@pytest.mark.parametrize("compress", [None, True, False])
def test_compress_makes_no_difference(blo, compress):
    emio.imsave(scan(numbered()), blo, compress=compress)
    assert blo.read_bytes() == WORKED


# Round trips and other readers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("endianess", ["<", ">"])
def test_what_was_saved_is_loaded_again(blo, endianess):
    pixels = np.random.default_rng(4).integers(0, 256, (3, 4, 5, 5), "u1")
    ds = scan(pixels, (12.8, 3.2, 0.02, 0.02))
    ds["navigator"] = ("y", "x"), np.arange(12, dtype="u1").reshape(3, 4)
    emio.imsave(ds, blo, endianess=endianess)
    back = emio.imload(blo)
    xr.testing.assert_allclose(back, ds, rtol=1e-12)
    assert {axis: back[axis].attrs["units"] for axis in "yxvu"} == {"y": "nm", "x": "nm", "v": "cm", "u": "cm"}


def test_a_16_bit_blockfile_becomes_an_8_bit_one(tmp_path, blo):
    pixels = np.array([[[[0, 65535], [256, 512]]]], "u2")
    original = write_blo(tmp_path / "original.blo", pixels, magic=259)
    emio.imsave(emio.imload(original), blo, intensity_scaling="dtype")
    assert emio.imload(blo).image.values.ravel().tolist() == [0, 255, 0, 1]
    assert struct.unpack_from("<H", blo.read_bytes(), 6) == (258,)


def test_the_real_file_survives_loading_and_saving(real_files, blo):
    original = real_files("blo").folder / "test1.blo"
    emio.imsave(emio.imload(original), blo)
    ours, theirs = blo.read_bytes(), original.read_bytes()
    assert ours == theirs


@pytest.fixture
def saved(blo):
    """A scan as a user would save it."""
    pixels = np.random.default_rng(6).integers(0, 256, (3, 4, 6, 6), "u1")
    facts = {"beam_energy": 200.0, "camera_length": 200.0, "start_time": "2015-12-01T15:40:59.812", "title": "Gold"}
    emio.imsave(scan(pixels).assign_attrs(acquisition=facts), blo)
    return blo, pixels


@pytest.mark.peers
@pytest.mark.parametrize("lazy", [False, True])
def test_rosettasciio_reads_what_we_write(saved, lazy):
    reader = pytest.importorskip("rsciio.blockfile")
    path, pixels = saved
    (theirs,) = reader.file_reader(str(path), lazy=lazy)
    np.testing.assert_array_equal(np.asarray(theirs["data"]), pixels)
    assert [axis["scale"] for axis in theirs["axes"]] == pytest.approx([4, 2.5, 0.02, 0.02])
    assert [axis["units"] for axis in theirs["axes"]] == ["nm", "nm", "cm", "cm"]
    assert theirs["metadata"]["General"]["notes"] == "Gold"
    assert theirs["original_metadata"]["blockfile_header"]["Beam_energy"] == 200_000


@pytest.mark.peers
def test_libertem_reads_what_we_write(saved):
    api = pytest.importorskip("libertem.api")
    udf = pytest.importorskip("libertem.udf.raw")
    path, pixels = saved
    dataset = api.Context.make_with("inline").load("blo", path=str(path))
    assert tuple(dataset.shape) == pixels.shape
    picked = api.Context.make_with("inline").run_udf(dataset, udf.PickUDF(), roi=np.ones((3, 4), bool))
    np.testing.assert_array_equal(picked["intensity"].data.reshape(pixels.shape), pixels)


@pytest.mark.peers
def test_we_read_what_rosettasciio_writes(tmp_path):
    """It puts its frames at 4108 where the original software has them at 4112."""
    writer = pytest.importorskip("rsciio.blockfile")
    names = (("y", "nm", True), ("x", "nm", True), ("dy", "cm", False), ("dx", "cm", False))
    pixels = numbered()
    axes = [
        {"name": n, "units": u, "navigate": nav, "scale": s, "offset": 0, "size": size}
        for (n, u, nav), s, size in zip(names, (4, 2.5, 0.02, 0.02), pixels.shape, strict=True)
    ]
    signal = {"data": pixels, "axes": axes, "metadata": {}, "original_metadata": {}, "attributes": {"_lazy": False}}
    path = tmp_path / "theirs.blo"
    writer.file_writer(str(path), signal, navigator=None, show_progressbar=False)
    ds = emio.imload(path)
    np.testing.assert_array_equal(ds.image, pixels)
    assert ds.attrs["metadata"]["fileheader"]["Data_offset_2"] == 4108
    assert ds.attrs["metadata"]["spacing"] == pytest.approx({"y": 4, "x": 2.5, "v": 0.02, "u": 0.02})


@pytest.mark.parametrize("energy", [-1, 5e9, float("nan"), "300 keV"])
def test_a_beam_energy_that_the_header_cannot_hold_is_refused_by_name(tmp_path, energy):
    dataset = xr.Dataset(
        {"image": (tuple("yxvu"), np.zeros((1, 1, 2, 2), "u1"))}, attrs={"acquisition": {"beam_energy": energy}}
    )
    with pytest.raises(ArgumentError, match="Beam_energy"):
        emio.imsave(dataset, tmp_path / "scan.blo")
    assert not list(tmp_path.iterdir())
