"""Reading TIA series (.ser) and acquisitions (.emi)."""

import hashlib
import json
import pickle
import shutil
import struct
import warnings

import numpy as np
import pytest

import intake_emio as emio
from intake_emio.errors import ArgumentError, EmioError, EmioWarning, HeaderError, MissingFileError, TruncatedError
from intake_emio.formats._emi import as_number, start_time
from intake_emio.formats.ser import SerSource

from .encoders.ser import DATA_TYPES, number, object_info, position, write_emi, write_ser

REAL = [
    "new/128x128-TEM_search",
    "new/128x128_TEM_acquire-sum1",
    "new/16x16-diffraction_imagel_5x5x256x256_EDS",
    "new/16x16-spectrum_image_5x5x4000-not_square",
    "old/03_Scanning Preview",
    "old/16x16-line_profile_diagonal_10x1024",
    "old/16x16-line_profile_horizontal_10x1024",
    "old/16x16-point_spectrum-1x1024",
    "old/16x16-spectrum_image-5x5x1024",
    "old/16x16_STEM_BF_DF_acquire",
    "old/16x16_STEM_BF_DF_search",
    "old/64x64_TEM_images_acquire",
    "old/64x64x5_TEM_preview",
    "old/no_AcquireDate",
]
# An image of 3 x 2 pixels, worked by hand: header of 34 bytes, two offsets, element of 50 + 6 bytes, tag
WORKED = bytes.fromhex(
    "49 49 97 01 10 02 22 41 00 00 52 41 00 00 01 00 00 00 01 00 00 00 1e 00 00 00 00 00 00 00"
    "26 00 00 00 5e 00 00 00"
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 e0 3f 00 00 00 00"
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 d0 3f 00 00 00 00"
    "01 00 03 00 00 00 02 00 00 00 01 02 03 04 05 06"
    "52 41 00 00 59 5b cb 56"
)
SCAN = [position(4, 0, 1e-9), position(3, -2e-9, -2e-9, 3)]


def images(count=1, rows=3, columns=4, dtype="<u2"):
    values = np.random.default_rng(3).integers(0, 100, (count, rows, columns))
    return (
        values.astype(dtype) + (1j * values[::-1]).astype(dtype)
        if np.dtype(dtype).kind == "c"
        else values.astype(dtype)
    )


def spectra(count=1, channels=7, dtype="<i4"):
    return images(count, 1, channels, dtype)[:, 0]


@pytest.fixture
def ser(tmp_path):
    return tmp_path / "x_1.ser"


@pytest.fixture
def emi(tmp_path):
    return tmp_path / "x.emi"


def mode(text, *more):
    return [("Mode", text, ""), *more]


# Real files ----------------------------------------------------------------------------------------------------------


def _check(ds, expected):
    assert list(ds.image.shape) == expected["shape"]
    assert str(ds.image.dtype) == expected["dtype"]
    assert "".join(ds.image.dims) == expected["axes"]
    assert hashlib.sha256(np.ascontiguousarray(ds.image.values).tobytes()).hexdigest() == expected["sha256"]
    assert ds.metadata["spacing"] == pytest.approx(expected["spacing"])
    assert ds.metadata["spacing_units"] == expected["units"]
    for axis, origin in expected["origin"].items():
        assert float(ds[axis][0]) == pytest.approx(origin)
    assert ds.time.dtype == "M8[s]"
    assert ds.time.values.reshape(-1)[0].astype("i8") == expected["first_time"]
    if "start_time" in expected:
        assert ds.acquisition["start_time"] == expected["start_time"]
    json.dumps(ds.attrs)


@pytest.mark.parametrize("name", [f"{stem}{end}" for stem in REAL for end in (".emi", "_1.ser")])
def test_real_files_are_what_other_programs_and_the_header_say(real_files, name):
    files = real_files("ser")
    _check(emio.imload(files.path(name)), files.expected[name])


@pytest.mark.parametrize("name", ["old/16x16_STEM_BF_DF_acquire.emi", "old/16x16_STEM_BF_DF_search.emi"])
def test_the_second_series_of_real_acquisitions_is_chosen(real_files, name):
    files = real_files("ser")
    ds = emio.imload(files.path(name), series=2)
    _check(ds, files.expected[f"{name}#series=2"])
    stem = name.removeprefix("old/").removesuffix(".emi")
    entry = {"shape": [16, 16], "dtype": "uint16", "kind": "images"}
    assert ds.metadata["datasets"] == [{"index": n, "name": f"{stem}_{n}.ser", **entry} for n in (1, 2)]


def test_the_planned_length_of_a_real_stopped_series(real_files):
    files = real_files("ser")
    name = "old/03_Scanning Preview_1.ser"
    with pytest.warns(EmioWarning, match="195 of 200"):
        ds = emio.imload(files.path(name), only_valid_data=False)
    _check(ds, files.expected[f"{name}#only_valid_data=False"])
    assert np.isnat(ds.time.values[5:]).all()


def test_every_real_file_is_tested(real_files):
    files = real_files("ser")
    assert {key.split("#")[0] for key in files.expected if key != "_about"} == {
        f"{stem}{end}" for stem in REAL for end in (".emi", "_1.ser")
    }


def test_the_image_is_the_one_that_tia_exported(real_files):
    files = real_files("ser")
    ours = emio.imload(files.path("old/64x64_TEM_images_acquire.emi")).image
    np.testing.assert_array_equal(ours, np.load(files.path("old/64x64_TEM_images_acquire.npy")))


def test_beam_positions_of_a_real_map_stand_half_a_step_inside(real_files):
    ds = emio.imload(real_files("ser").path("new/16x16-diffraction_imagel_5x5x256x256_EDS_1.ser"))
    assert ds.position_x.dims == ds.position_y.dims == ds.time.dims == ("y", "x")
    assert ds.position_x.attrs["units"] == ds.position_y.attrs["units"] == "nm"
    np.testing.assert_allclose(ds.position_x, np.broadcast_to(ds.x.values + 1.8739 / 2, (5, 5)), atol=1e-3)
    np.testing.assert_allclose(ds.position_y, np.broadcast_to(ds.y.values[:, None] - 1.8739 / 2, (5, 5)), atol=1e-3)


def test_real_microscope_facts(real_files):
    facts = emio.imload(real_files("ser").path("new/128x128-TEM_search_1.ser")).acquisition
    assert facts["beam_energy"] == 200
    assert facts["magnification"] == 22500
    assert facts["exposure_time"] == 0.1
    assert facts["instrument"] == "TalosF200X 200 kV D6308 XTwin"
    assert facts["detector"] == "BM-Ceta"
    assert facts["stage"] == {"x": 0.147, "y": 0.255, "z": 0.021, "alpha": 0, "beta": 0}
    assert facts["title"] == "128x128-TEM_search_1"


def test_a_real_series_without_its_emi_keeps_pixels_and_calibration(real_files, tmp_path):
    files = real_files("ser")
    shutil.copy(files.path("new/128x128-TEM_search_1.ser"), tmp_path)
    ds = emio.imload(tmp_path / "128x128-TEM_search_1.ser")
    _check(ds, files.expected["new/128x128-TEM_search_1.ser"])
    assert set(ds.acquisition) == {"title"}


# What is read --------------------------------------------------------------------------------------------------------


def test_the_file_worked_by_hand_is_read_bottom_row_first(ser):
    ser.write_bytes(WORKED)
    ds = emio.imload(ser)
    assert ds.image.values.tolist() == [[4, 5, 6], [1, 2, 3]]
    assert str(ds.time.values) == "2016-02-22T19:02:49"
    assert ds.x.values.tolist() == [0, 5e8, 1e9]
    assert ds.y.values.tolist() == [0, 2.5e8]


def test_the_worked_file_is_what_the_encoder_writes(ser):
    image = np.array([[[4, 5, 6], [1, 2, 3]]], "u1")
    scales = [(0, 0.5, 0), (0, 0.25, 0)]
    write_ser(ser, image, [], version=0x0210, calibration=scales, times=0x56CB5B59)
    assert ser.read_bytes() == WORKED


@pytest.mark.parametrize(("name", "format_name"), [("x_1.ser", "ser"), ("X_1.SER", "ser"), ("x.dat", "ser")])
def test_series_are_recognised_by_their_content(tmp_path, name, format_name):
    assert emio.detect(write_ser(tmp_path / name, images())).format == format_name


@pytest.mark.parametrize("dtype", list(DATA_TYPES))
@pytest.mark.parametrize("version", [0x0210, 0x0220])
def test_all_pixel_types_are_read_in_both_versions(ser, version, dtype):
    pixels = images(3, dtype="<" + dtype)
    ds = emio.imload(write_ser(ser, pixels, version=version))
    assert ds.image.dtype == np.dtype(dtype)
    assert ds.image.dims == ("i", "y", "x")
    np.testing.assert_array_equal(ds.image, pixels)
    lines = spectra(2, dtype="<" + dtype)
    np.testing.assert_array_equal(emio.imload(write_ser(ser, lines, version=version)).image, lines)


@pytest.mark.parametrize("io_backend", ["mmap", "buffered"])
@pytest.mark.parametrize("chunks", [None, "frame", {"y": 1}])
def test_scans_are_read_the_first_dimension_fastest(ser, io_backend, chunks):
    pixels = images(12)
    write_ser(ser, pixels, SCAN, positions=(0, 0))
    ds = emio.imload(ser, io_backend=io_backend, chunks=chunks)
    assert dict(ds.image.sizes) == {"y": 3, "x": 4, "v": 3, "u": 4}
    np.testing.assert_array_equal(ds.image, pixels.reshape(3, 4, 3, 4))
    np.testing.assert_allclose(ds.x, [0, 1, 2, 3])
    np.testing.assert_allclose(ds.y, [4, 2, 0], atol=1e-12)  # -2 nm belongs to element 3, one past the end


def test_maps_of_spectra_have_the_channel_first(ser):
    pixels = spectra(12)
    write_ser(ser, pixels, SCAN, calibration=[(-20, 0.2, 0)])
    ds = emio.imload(ser)
    assert ds.image.dims == ("c", "y", "x")
    np.testing.assert_array_equal(ds.image, pixels.reshape(3, 4, 7).transpose(2, 0, 1))
    assert ds.c.attrs["units"] == "eV"
    np.testing.assert_allclose(ds.c, -20 + 0.2 * np.arange(7))
    assert emio.imload(ser, output_axis_order="yxc").image.dims == ("y", "x", "c")


@pytest.mark.parametrize(
    ("sizes", "element", "axes"),
    [
        ([], images, "yx"),
        ([1], images, "yx"),
        ([], spectra, "c"),
        ([1], spectra, "c"),
        ([6], images, "iyx"),
        ([6], spectra, "ic"),
        ([3, 2], images, "yxvu"),
        ([6, 1], images, "yxvu"),
        ([3, 2, 2], images, "iyxvu"),
        ([3, 2, 2], spectra, "icyx"),
        ([3, 2, 2, 2], images, "ityxvu"),
    ],
)
def test_axes_follow_the_dimensions(ser, sizes, element, axes):
    count = int(np.prod(sizes, dtype=int))
    ds = emio.imload(write_ser(ser, element(count), [number(n) for n in sizes]))
    assert "".join(ds.image.dims) == axes
    assert not {"i", "t", "v", "u"} & set(ds.metadata["spacing"]) - set("vu")


def test_many_dimensions_need_names(ser):
    write_ser(ser, images(32, 1, 2), [number(2)] * 5)
    with pytest.raises(ArgumentError, match="metadata"):
        emio.imload(ser)
    ds = emio.imload(ser, metadata={"axes": "abcdeyx"})
    assert dict(ds.image.sizes) == dict(zip("abcdeyx", [2] * 5 + [1, 2], strict=True))


def test_a_contradicting_number_of_elements_makes_one_axis(ser):
    pixels = images(5)
    write_ser(ser, pixels, [number(3), number(2)], total=8)
    with pytest.warns(EmioWarning, match=r"\(2, 3\).*8 elements"):
        ds = emio.imload(ser)
    assert ds.image.dims == ("i", "y", "x")
    np.testing.assert_array_equal(ds.image, pixels)
    np.testing.assert_array_equal(emio.imload(ser, nav_shape=(5,)).image, pixels)  # the user knows: no warning


# Stopped acquisitions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rubbish", [0, 2**31])
def test_a_stopped_series_is_as_long_as_what_was_recorded(ser, rubbish):
    pixels = images(4)
    write_ser(ser, pixels, [number(9)], rubbish=rubbish, times=[5, 6, 7, 8])
    ds = emio.imload(ser)
    np.testing.assert_array_equal(ds.image, pixels)
    assert ds.time.values.astype("i8").tolist() == [5, 6, 7, 8]  # tag offsets stand behind all nine data offsets
    with pytest.warns(EmioWarning, match="5 of 9"):
        ds = emio.imload(ser, only_valid_data="False")
    np.testing.assert_array_equal(ds.image, [*pixels, *np.zeros((5, 3, 4))])


def test_one_of_ten_spectra_is_a_single_spectrum(ser):
    line = spectra(1)
    write_ser(ser, line, [number(10)])
    assert emio.imload(ser).image.dims == ("c",)
    with pytest.warns(EmioWarning):
        assert emio.imload(ser, only_valid_data=False).image.shape == (10, 7)


@pytest.mark.parametrize("only_valid_data", [True, False])
def test_a_stopped_scan_keeps_its_shape(ser, only_valid_data):
    pixels = spectra(5)
    write_ser(ser, pixels, SCAN, positions=(1e-9, 2e-9), times=7)
    with pytest.warns(EmioWarning, match="7 of 12"):
        ds = emio.imload(ser, only_valid_data=only_valid_data)
    values = ds.image.transpose("y", "x", "c").values.reshape(12, 7)
    np.testing.assert_array_equal(values[:5], pixels)
    assert not values[5:].any()
    assert np.isnat(ds.time.values.reshape(-1)).tolist() == [False] * 5 + [True] * 7
    np.testing.assert_allclose(ds.position_y.values.reshape(-1), [2.0] * 5 + [np.nan] * 7)


def test_shapes_by_the_user_count_recorded_elements(ser):
    pixels = images(6)
    write_ser(ser, pixels, [number(10)])
    np.testing.assert_array_equal(emio.imload(ser, nav_shape=(2, 3)).image, pixels.reshape(2, 3, 3, 4))
    ds = emio.imload(ser, sync_offset=2)
    np.testing.assert_array_equal(ds.image[:4], pixels[2:])
    assert not ds.image[4:].any()
    ds = emio.imload(ser, sync_offset=-1)
    np.testing.assert_array_equal(ds.image[1:], pixels[:5])
    for offset in (6, -6, 9):
        with pytest.raises(ArgumentError, match="sync_offset"):
            emio.imload(ser, sync_offset=offset)


def test_sig_shape_takes_the_rows_as_they_are_shown(ser):
    pixels = images(2)
    write_ser(ser, pixels)
    ds = emio.imload(ser, sig_shape=(2, 6))
    np.testing.assert_array_equal(ds.image, pixels.reshape(2, 2, 6))
    assert "x" not in ds.coords
    with pytest.raises(ArgumentError, match="12 pixels"):
        emio.imload(ser, sig_shape=(5, 5))
    lines = spectra(2, 8)
    np.testing.assert_array_equal(emio.imload(write_ser(ser, lines), sig_shape=(2, 4)).image, lines.reshape(2, 2, 4))


# Offsets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("element", [images, spectra])
@pytest.mark.parametrize(
    "placed",
    [
        {"gaps": {2: b"\xff" * 13}},
        {"gaps": {1: b"\xff" * 3, 2: b"\xff" * 13, 5: b"\xff" * 100}},
        {"gaps": {n: b"\xff" * n * n for n in range(6)}},
        {"order": [5, 4, 3, 2, 1, 0]},
        {"order": [2, 3, 4, 0, 1, 5], "gaps": {0: b"\xff" * 7}},
    ],
)
def test_elements_are_read_where_their_offsets_say(ser, element, placed):
    pixels = element(6)
    write_ser(ser, pixels, times=np.arange(6), positions=np.arange(12).reshape(6, 2), **placed)
    ds = emio.imload(ser)
    np.testing.assert_array_equal(ds.image, pixels)
    np.testing.assert_array_equal(ds.image.isel(i=[4, 0, 2]), pixels[[4, 0, 2]])
    assert ds.time.values.astype("i8").tolist() == list(range(6))
    np.testing.assert_allclose(ds.position_y, 1e9 * (2 * np.arange(6) + 1))
    scan = emio.imload(ser, nav_shape=(2, 3), sync_offset=1).image
    np.testing.assert_array_equal(scan.transpose("y", "x", ...)[0], pixels[1:4])


def test_elements_of_another_type_are_refused_when_they_are_read(ser):
    write_ser(ser, images(4), element_types={2: 5}, gaps={2: b"\0"})
    lazy = emio.imload(ser, chunks="frame")
    np.testing.assert_array_equal(lazy.image[:2], images(4)[:2])
    with pytest.raises(HeaderError, match=r"DataType 5.*the first one 2"):
        lazy.image.compute()


def test_a_last_element_of_another_type_is_refused(ser):
    write_ser(ser, images(4), element_types={3: 5})
    with pytest.raises(HeaderError, match="element 3 has DataType 5"):
        emio.imload(ser)


@pytest.mark.parametrize("bad", [{"tag_offsets": {1: 0, 4: 10**9}}, {"tag_ids": {1: 0x1234, 4: 0}}])
@pytest.mark.parametrize("kwargs", [{}, {"nav_shape": (2, 3)}, {"sync_offset": -2}])
def test_lost_tags_are_nat_and_nan(ser, bad, kwargs):
    write_ser(ser, images(6), times=np.arange(6), positions=np.arange(12).reshape(6, 2) * 1e-9, **bad)
    ds = emio.imload(ser, **kwargs)
    shift = kwargs.get("sync_offset", 0)
    wanted = [0, None, 2, 3, None, 5]
    wanted = [None] * -shift + wanted[: 6 + shift]
    times = ds.time.values.reshape(-1)
    assert [None if np.isnat(t) else t.astype("i8") for t in times] == wanted
    places = ds.position_x.values.reshape(-1)
    np.testing.assert_allclose(places, [np.nan if k is None else 2 * k for k in wanted])


def test_the_lost_tag_of_a_single_image_is_nat(ser):
    write_ser(ser, images(1), tag_offsets={0: 0})
    assert np.isnat(emio.imload(ser).time.values)


def test_unknown_tags_are_a_warning(ser):
    write_ser(ser, images(2), fields={"TagTypeID": 0x4199})
    with pytest.warns(EmioWarning, match="0x4199"):
        ds = emio.imload(ser)
    assert "time" not in ds.coords


# Calibration ---------------------------------------------------------------------------------------------------------


def test_the_offset_belongs_to_the_calibration_element(ser):
    write_ser(ser, images(1), calibration=[(-1e-9, 0.5e-9, 0), (5e-9, 2e-9, 2)])
    ds = emio.imload(ser)
    np.testing.assert_allclose(ds.x, [-1, -0.5, 0, 0.5])
    np.testing.assert_allclose(ds.y, [1, 3, 5])
    assert ds.x.attrs["units"] == ds.y.attrs["units"] == "nm"


@pytest.mark.parametrize("delta", [0.0, np.inf, np.nan])
def test_no_calibration_no_coordinate(ser, delta):
    write_ser(ser, images(2), [position(2, 0, delta)], calibration=[(0, delta, 0), (0, 1e-9, 0)])
    assert set(emio.imload(ser).coords) == {"y", "time"}


def test_huge_pixels_are_those_of_a_diffraction_pattern(ser):
    write_ser(ser, images(1), calibration=[(-8.4e7, 4.2e7, 0)] * 2)
    ds = emio.imload(ser)
    np.testing.assert_allclose(ds.x, 0.042 * np.arange(-2, 2))
    assert ds.x.attrs["units"] == ds.y.attrs["units"] == "1/nm"


@pytest.mark.parametrize(
    ("text", "camera", "delta", "units"),
    [
        (" TEM uP SA Zoom Image", "BM-Ceta", 1e-9, "nm"),
        (" TEM uP SA Zoom Image", "BM-Ceta", 4e7, "1/nm"),  # a pixel of 40000 km is none
        (" TEM uP SA Zoom Diffraction", "BM-Ceta", 4e7, "1/nm"),
        (" TEM uP SA Zoom Diffraction", "BM-Ceta", 0.5, "1/nm"),
        (" STEM nP SA Zoom Diffraction", None, 1e-9, "nm"),
        (" STEM nP SA Zoom Diffraction", "BM-Ceta", 4e7, "1/nm"),
    ],
)
def test_the_mode_of_the_microscope_decides_on_units(ser, emi, text, camera, delta, units):
    acquire = {"CameraNamePath": camera} if camera else {}
    write_ser(ser, images(1), calibration=[(0, delta, 0)] * 2)
    write_emi(emi, [(r"C:\data\x_1.ser", object_info(described=mode(text), acquire=acquire))])
    assert emio.imload(emi).x.attrs["units"] == units


@pytest.mark.parametrize(("step", "calibrated"), [(1e-9, True), (1.005e-9, True), (5e-9, False)])
def test_single_points_are_no_line(ser, step, calibrated):
    places = np.arange(3)[:, None] * np.array([0.6, 0.8]) * step
    ds = emio.imload(write_ser(ser, spectra(3), [position(3, 0, 1e-9)], positions=places))
    assert ("i" in ds.coords) == calibrated


# Acquisitions --------------------------------------------------------------------------------------------------------


def _series(tmp_path, *numbers, stem="x"):
    return {n: write_ser(tmp_path / f"{stem}_{n}.ser", images(1) + np.uint16(n)) for n in numbers}


def test_an_acquisition_opens_its_lowest_series_and_lists_all(tmp_path, emi):
    _series(tmp_path, 2, 10)
    write_ser(tmp_path / "x_3.SER", spectra(12), SCAN)
    write_emi(emi, [(rf"Z:\x_{n}.ser", object_info(manufacturer=f"maker {n}")) for n in (10, 2, 3)])
    ds = emio.imload(emi)
    np.testing.assert_array_equal(ds.image, images(1)[0] + 2)
    assert ds.acquisition["detector"] == "maker 2"
    assert ds.metadata["datasets"] == [
        {"index": 2, "name": "x_2.ser", "shape": [3, 4], "dtype": "uint16", "kind": "images"},
        {"index": 3, "name": "x_3.SER", "shape": [7, 3, 4], "dtype": "int32", "kind": "spectra"},
        {"index": 10, "name": "x_10.ser", "shape": [3, 4], "dtype": "uint16", "kind": "images"},
    ]
    ds = emio.imload(emi, series="10")
    np.testing.assert_array_equal(ds.image, images(1)[0] + 10)
    assert ds.acquisition["detector"] == "maker 10"
    assert emio.imload(tmp_path / "x_3.SER").acquisition["detector"] == "maker 3"
    with pytest.raises(ArgumentError, match=r"series=4.*x_2.ser, x_3.SER, x_10.ser"):
        emio.imload(emi, series=4)


def test_a_broken_series_beside_the_wanted_one_is_listed(tmp_path, emi):
    _series(tmp_path, 1)
    (tmp_path / "x_2.ser").write_bytes(b"II")
    write_emi(emi, [(None, object_info()), (None, object_info())])
    assert emio.imload(emi).metadata["datasets"][1]["kind"] == "unreadable"


@pytest.mark.parametrize("stem", ["a[1]", "a b", "a_1", "ä*"])
def test_names_are_not_patterns(tmp_path, stem):
    _series(tmp_path, 1, stem=stem)
    _series(tmp_path, 7, stem="a1")
    write_emi(tmp_path / f"{stem}.emi", [(None, object_info())])
    ds = emio.imload(tmp_path / f"{stem}.emi")
    assert "datasets" not in ds.metadata
    assert ds.acquisition["detector"] == "FEI"


@pytest.mark.parametrize(
    ("objects", "detector"),
    [
        ([(r"C:\old name_2.ser", "b"), (r"C:\old name_1.ser", "a")], "a"),
        ([(None, "survey"), (None, "profile"), (r"C:\x_1.ser", "a"), (None, None)], "a"),
        ([(None, "survey"), ("anonymous", "a"), ("anonymous", "b")], "a"),
        ([(r"C:\x_2.ser", "b"), ("anonymous", "a")], "a"),
        ([(None, "a"), (None, "b")], "a"),
    ],
)
def test_the_object_of_a_series_is_found(tmp_path, emi, objects, detector):
    _series(tmp_path, 1, 2)
    empty = "<ObjectInfo><Uuid>0</Uuid></ObjectInfo>"
    write_emi(emi, [(path, empty if maker is None else object_info(manufacturer=maker)) for path, maker in objects])
    assert emio.imload(tmp_path / "x_1.ser").acquisition["detector"] == detector


def test_the_only_object_with_a_date_belongs_to_the_only_series(ser, emi):
    write_ser(ser, images(1))
    write_emi(emi, [(None, object_info(date=None, manufacturer="no")), (None, object_info(manufacturer="yes"))])
    assert emio.imload(ser).acquisition["detector"] == "yes"


@pytest.mark.parametrize(
    ("objects", "match"),
    [
        ([], "no <ObjectInfo>"),
        ([(None, object_info()), (None, object_info())], "none of its 2 objects"),
        ([(r"C:\x_1.ser", "<ObjectInfo><Mode></ObjectInfo>")], "broken XML"),
        ([(r"C:\x_1.ser", '<ObjectInfo><a x="&b;"/></ObjectInfo>')], "broken XML"),
    ],
)
def test_a_broken_emi_costs_only_metadata(ser, emi, objects, match):
    write_ser(ser, images(1))
    write_emi(emi, objects)
    for path in (ser, emi):
        with pytest.warns(EmioWarning, match=match):
            ds = emio.imload(path)
        np.testing.assert_array_equal(ds.image, images(1)[0])
        assert set(ds.acquisition) == {"title"}


def test_text_that_is_no_xml_is_kept(ser, emi):
    write_ser(ser, images(1))
    write_emi(emi, [(None, "<ObjectInfo><Mode></ObjectInfo>")])
    with pytest.warns(EmioWarning):
        ds = emio.imload(ser)
    assert ds.metadata["fileheader"]["ObjectInfo"] == {"xml": "<ObjectInfo><Mode></ObjectInfo>"}


def test_what_the_microscope_says_is_translated(ser, emi):
    described = [
        ("Microscope", "Microscope Titan 300 kV", ""),
        ("User", "12", ""),
        ("High tension", "300", "kV"),
        ("Mode", " STEM nP SA Zoom Diffraction", ""),
        ("Magnification", "115000", "x"),
        ("Camera length", "0.260", "m"),
        ("Stage X", "-0.5", "um"),
        ("Stage A", "15.61", "deg"),
        ("OBJ Aperture", "V", "um"),
    ]
    acquire = {"CameraNamePath": "BM-Ceta", "DwellTimePath": "0.05", "Magnification": "0 X"}
    xml = object_info(described=described, acquire=acquire, header_info={5: 1, 45: "0.00015"}, voltage=200000)
    write_ser(ser, images(1))
    write_emi(emi, [(r"C:\x_1.ser", xml)])
    ds = emio.imload(emi)
    assert ds.acquisition == {
        "beam_energy": 300,
        "camera_length": 260,
        "magnification": 115000,
        "exposure_time": 0.05,
        "dwell_time": 0.05,
        "stage": {"x": -0.5, "alpha": 15.61},
        "instrument": "Titan 300 kV",
        "detector": "BM-Ceta",
        "start_time": "2016-02-22T18:50:01",
        "title": "x",
    }
    kept = ds.metadata["fileheader"]["ObjectInfo"]
    assert kept["ExperimentalDescription"]["High tension_kV"] == 300
    assert kept["ExperimentalDescription"]["OBJ Aperture_um"] == "V"
    assert kept["ExperimentalDescription"]["User"] == "12"
    assert kept["TrueImageHeaderInfo"] == {"5": 1, "45": 0.00015}
    assert kept["ExperimentalConditions"] == {"AcceleratingVoltage": 200000, "Tilt1": -0.000034}


def test_spectra_are_integrated(ser, emi):
    write_ser(ser, spectra(1))
    write_emi(emi, [(None, object_info(acquire={"IntegrationTime": 25, "DwellTimePath": 3}))])
    assert emio.imload(ser).acquisition["exposure_time"] == 25


def test_xml_may_be_latin_1(ser, emi):
    write_ser(ser, images(1))
    write_emi(emi, [(None, object_info(manufacturer="Möller").encode("latin-1"))])
    assert emio.imload(ser).acquisition["detector"] == "Möller"


@pytest.mark.parametrize("date", ["", "Foo Bar 1", "Mon Fev 22 18:50:01 2016", "Mon Feb 31 18:50:01 2016"])
def test_odd_dates_are_none(date):
    assert start_time(date) is None


def test_numbers_and_texts():
    texts = ["5", "-0.5", "1e3", "1_000", "V", "", "nan", "1e999", "9" * 400, "².5"]
    assert [as_number(t) for t in texts] == [5, -0.5, 1000, "1_000", "V", "", "nan", "1e999", "9" * 400, "².5"]


@pytest.mark.parametrize(
    "rubbish",
    [
        b"<ObjectInfo>" * 300_000,
        b"<ObjectInfo>" + b"x" * (2 << 20),
        b"<ObjectInfo>" + b"x" * (2 << 20) + b"</ObjectInfo>",
    ],
)
def test_rubbish_in_the_emi_is_skipped(ser, emi, rubbish):
    write_ser(ser, images(1))
    write_emi(emi, [(r"C:\x_1.ser", object_info())])
    assert emio.imload(ser).acquisition["detector"] == "FEI"
    emi.write_bytes(emi.read_bytes() + rubbish)
    assert emio.imload(ser).acquisition["detector"] == "FEI"


def test_deeply_nested_xml_is_survived(ser, emi):
    write_ser(ser, images(1))
    depth = 50_000
    write_emi(emi, [(None, f"<ObjectInfo>{'<a>' * depth}{'</a>' * depth}</ObjectInfo>")])
    assert emio.imload(ser).image.shape == (3, 4)


def test_an_emi_in_capitals_is_found(tmp_path, ser):
    write_ser(ser, images(1))
    write_emi(tmp_path / "x.EMI", [(None, object_info())])
    assert emio.imload(ser).acquisition["detector"] == "FEI"


def test_remote_acquisitions(tmp_path, ser, emi):
    fsspec = pytest.importorskip("fsspec")
    pixels = images(5)
    write_ser(ser, pixels, gaps={3: b"12"})
    write_emi(emi, [(None, object_info())])
    for path in (ser, emi):
        with fsspec.open(f"memory://tia/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    for name in ("x_1.ser", "x.emi"):
        ds = emio.imload(f"memory://tia/{name}")
        np.testing.assert_array_equal(ds.image, pixels)
        assert ds.acquisition["detector"] == "FEI"


# Refusals ------------------------------------------------------------------------------------------------------------


def test_an_acquisition_without_series_is_refused(emi):
    write_emi(emi, [(None, object_info())])
    with pytest.raises(MissingFileError, match=r"x_1\.ser"):
        emio.imload(emi)


def test_another_series_than_the_file_is_refused(ser):
    write_ser(ser, images(1))
    emio.imload(ser, series=1)
    with pytest.raises(ArgumentError, match="is series 1"):
        emio.imload(ser, series=2)


@pytest.mark.parametrize("number", [-1, "two", 1.5])
def test_impossible_series_are_refused(ser, number):
    with pytest.raises(ArgumentError, match="series"):
        SerSource(ser, series=number)


def test_astronomy_videos_are_refused_with_a_hint(ser):
    ser.write_bytes(b"LUCAM-RECORDER" + bytes(164))
    with pytest.raises(HeaderError, match="astronomy"):
        emio.imload(ser)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"ByteOrder": 0x4D4D}, "ByteOrder"),
        ({"SeriesID": 0x0198}, "SeriesID"),
        ({"SeriesVersion": 0x0230}, "SeriesVersion"),
        ({"DataTypeID": 0x4121}, "DataTypeID"),
        ({"ValidNumberElements": 0}, "holds no data"),
        ({"ValidNumberElements": 4}, "more than"),
        ({"TotalNumberElements": 2**31}, "TotalNumberElements"),
        ({"OffsetArrayOffset": 10}, "OffsetArrayOffset"),
        ({"OffsetArrayOffset": 2**62}, "OffsetArrayOffset"),
        ({"NumberDimensions": 17}, "at most 16"),
        ({"NumberDimensions": 16}, "leaves the header"),
    ],
)
def test_broken_headers_are_refused(ser, fields, match):
    write_ser(ser, images(3), fields=fields)
    with pytest.raises(HeaderError, match=match):
        emio.imload(ser)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"data_offsets": {1: 4}}, HeaderError, "within the header"),
        ({"data_offsets": {1: 2**63}}, TruncatedError, "element 1"),
        ({"data_offsets": {0: 2**64 - 1}}, TruncatedError, "element 0"),
        ({"element_types": {0: 11}}, HeaderError, "DataType.*11"),
        ({"element_types": {0: 0}}, HeaderError, "DataType.*0"),
    ],
)
def test_broken_elements_are_refused(ser, changes, error, match):
    write_ser(ser, images(3), **changes)
    with pytest.raises(error, match=match):
        emio.imload(ser)


def test_empty_and_enormous_elements_are_refused(ser):
    data = bytearray(WORKED)
    struct.pack_into("<II", data, 80, 0, 2)
    ser.write_bytes(data)
    with pytest.raises(HeaderError, match="no pixels"):
        emio.imload(ser)
    struct.pack_into("<II", data, 80, 2**32 - 1, 2**32 - 1)
    ser.write_bytes(data)
    with pytest.raises(TruncatedError, match="element 0"):
        emio.imload(ser)


def test_texts_that_leave_the_file_are_refused(ser):
    write_ser(ser, images(1))
    data = ser.read_bytes().replace(struct.pack("<I", 6) + b"Number", struct.pack("<I", 2**31) + b"Number")
    ser.write_bytes(data)
    with pytest.raises(HeaderError, match="Description"):
        emio.imload(ser)


def test_a_file_cut_anywhere_is_refused(ser):
    write_ser(ser, images(2), times=1)
    data = ser.read_bytes()
    for size in [*range(4, len(data) - 8, 7), len(data) - 9]:
        ser.write_bytes(data[:size])
        with pytest.raises(EmioError):
            emio.imload(ser)
    ser.write_bytes(data[:-8])  # the last tag is missing: only its time is lost
    assert np.isnat(emio.imload(ser).time.values).tolist() == [False, True]


def test_any_damage_is_refused_or_read_but_never_breaks(ser):
    write_ser(ser, images(3), SCAN[:1], total=4, positions=(0, 0))
    data = np.frombuffer(ser.read_bytes(), "u1")
    random = np.random.default_rng(11)
    for _ in range(150):
        damaged = data.copy()
        damaged[random.integers(4, 180, 2)] = random.integers(0, 256, 2)
        ser.write_bytes(damaged.tobytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                shape = emio.imload(ser).image.shape
            except EmioError:
                continue
        assert np.prod(shape) < 1e6


# As a source ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gaps", [{}, {5: b"123"}])
def test_sources_and_graphs_pickle_and_run_on_threads(ser, gaps):
    pixels = images(12)
    write_ser(ser, pixels, SCAN, gaps=gaps)
    source = pickle.loads(pickle.dumps(SerSource(ser, chunks="frame")))
    image = pickle.loads(pickle.dumps(source.to_dask())).image
    np.testing.assert_array_equal(image.sum(("y", "x")).compute(scheduler="threads"), pixels.sum(0))


def test_opening_does_not_read_pixels(ser):
    """Of a sparse file of 4 GB, nothing but the headers is touched."""
    write_ser(ser, images(1, 2, 2), [number(1000)])
    count, size = 1000, 4 << 20
    start = 72 + 16 * count
    offsets = start + np.arange(count, dtype="<u8") * (size + 58)
    head = ser.read_bytes()[:72]
    element = struct.pack("<ddIddIHII", 0, 1e-9, 0, 0, 1e-9, 0, 2, 2048, 1024)
    with open(ser, "wb") as file:
        file.write(head[:18] + struct.pack("<I", count) + head[22:])
        file.write(offsets.tobytes() + (offsets + 50 + size).tobytes())
        for k in (0, count - 1):
            file.seek(int(offsets[k]))
            file.write(element)
        file.truncate(int(offsets[-1]) + 58 + size)
    ds = emio.imload(ser)
    assert ds.image.shape == (1000, 1024, 2048)
    assert not ds.image[500].values.any()


# Other readers -------------------------------------------------------------------------------------------------------


@pytest.mark.peers
@pytest.mark.parametrize("name", REAL)
def test_rosettasciio_reads_the_same_pixels(real_files, name):
    reader = pytest.importorskip("rsciio.tia")
    path = real_files("ser").path(f"{name}_1.ser")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = np.asarray(reader.file_reader(path)[0]["data"])
    ours = emio.imload(path, chunks=None, output_axis_order="iyxc" if theirs.ndim < 4 else None).image.values
    np.testing.assert_array_equal(ours, theirs.reshape(ours.shape))


@pytest.mark.peers
@pytest.mark.parametrize("name", ["old/64x64x5_TEM_preview", "new/128x128-TEM_search"])
def test_libertem_reads_the_same_pixels(real_files, name):
    api = pytest.importorskip("libertem.api")
    udf = pytest.importorskip("libertem.udf.raw")
    path = real_files("ser").path(f"{name}_1.ser")
    context = api.Context.make_with("inline")
    dataset = context.load("ser", path=path)
    roi = np.ones(tuple(dataset.shape.nav), bool)
    theirs = context.run_udf(dataset, udf.PickUDF(), roi=roi)["intensity"].data
    ours = emio.imload(path, chunks=None).image.values
    np.testing.assert_array_equal(ours, np.asarray(theirs).reshape(ours.shape))


@pytest.mark.peers
@pytest.mark.parametrize("name", ["old/64x64x5_TEM_preview", "old/16x16-line_profile_diagonal_10x1024"])
def test_ncempy_reads_the_same_elements_and_times(real_files, name):
    reader = pytest.importorskip("ncempy.io.ser")
    path = real_files("ser").path(f"{name}_1.ser")
    ds = emio.imload(path, chunks=None)
    with reader.fileSER(path) as file:
        for k, image in enumerate(ds.image.values):
            np.testing.assert_array_equal(image, file.getDataset(k)[0])
            assert file._getTag(k)["Time"] == ds.time.values[k].astype("i8")
