"""Reading Digital Micrograph files."""

import hashlib
import pickle
import struct
import subprocess
import sys

import dask
import fsspec
import numpy as np
import pytest

import intake_emio as emio
from intake_emio import imload
from intake_emio.errors import ArgumentError, EmioError, EmioWarning, HeaderError, MissingFileError, TruncatedError
from intake_emio.formats.dm import DMSource

from .encoders.dm import DMImage, Value, write_dm

NO_UNITS = (0, 1, "")
BOTH = pytest.mark.parametrize("suffix", [".dm3", ".dm4"])
SCAN = np.arange(3 * 4 * 5 * 6, dtype="u2").reshape(3, 4, 5, 6)  # y x v u


def meta(**tags):
    return {"Meta Data": tags}


SPECTRUM_IMAGE = {"Format": "Spectrum image", "Signal": "EELS"}


def transposed(scan):
    """As older software stores a scan: v u y x."""
    return np.ascontiguousarray(scan.transpose(2, 3, 0, 1))


def one(path, image, **settings):
    return imload(write_dm(path, image, **settings))


@pytest.fixture
def dm4(tmp_path):
    return tmp_path / "a.dm4"


def test_a_file_worked_by_hand_is_read(tmp_path):
    """One image of 2 x 1 int16, all other tags missing."""

    def value(name, *words, data):
        words = b"".join(word.to_bytes(4, "big") for word in (len(words), *words))
        return b"\x15" + struct.pack(">H", len(name)) + name + b"%%%%" + words + data

    def group(name, *entries):
        return (
            b"\x14" + struct.pack(">H", len(name)) + name + struct.pack(">BBI", 0, 0, len(entries)) + b"".join(entries)
        )

    pixels = value(b"Data", 20, 2, 2, data=b"\x05\x00\xff\xff")
    kind = value(b"DataType", 5, data=b"\x01\x00\x00\x00")
    sizes = group(b"Dimensions", value(b"", 5, data=b"\x02\0\0\0"), value(b"", 5, data=b"\x01\0\0\0"))
    images = group(b"ImageList", group(b"", group(b"ImageData", pixels, kind, sizes)))
    path = tmp_path / "hand.dm3"
    path.write_bytes(struct.pack(">IIIBBI", 3, 0, 1, 0, 0, 1) + images)
    ds = imload(path)
    assert ds.attrs["format"] == "dm"
    assert ds.image.dims == ("y", "x")
    assert ds.image.values.tolist() == [[5, -1]]
    assert not ds.coords


# Recognising it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.dm3", "A.DM4", "renamed.dat"])
def test_files_are_recognised_by_content(tmp_path, name):
    path = write_dm(tmp_path / name, DMImage(np.zeros((2, 3), "f4")), version=4)
    assert emio.detect(path).format == "dm"


def test_other_files_are_not_taken_for_it(tmp_path):
    (tmp_path / "a.dat").write_bytes(bytes.fromhex("00000003 00000005 00000007") + bytes(100))
    (tmp_path / "b.dm3").write_bytes(b"notes of the day")
    for name in ("a.dat", "b.dm3"):
        with pytest.raises(EmioError, match="no format fits"):
            emio.detect(tmp_path / name)


def test_version_2_and_5_are_refused_by_name(tmp_path):
    (tmp_path / "old.dm2").write_bytes(b"\x00\x3d" + bytes(100))
    with pytest.raises(HeaderError, match="version 2"):
        imload(tmp_path / "old.dm2")
    (tmp_path / "new.dm5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(HeaderError, match="HDF5"):
        imload(tmp_path / "new.dm5", format="dm")


# Pixels --------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "c8", "c16", "?"])
def test_all_plain_types_are_read(tmp_path, suffix, byte_order, dtype):
    pixels = (np.arange(6).reshape(2, 3) - (2 if np.dtype(dtype).kind in "if" else 0)).astype(dtype)
    ds = one(tmp_path / f"a{suffix}", DMImage(pixels), byte_order=byte_order)
    assert ds.image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(ds.image, pixels)


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_numbers_of_64_bits_are_read(dm4, dtype):
    pixels = np.array([[1, np.iinfo(dtype).max]], dtype)
    np.testing.assert_array_equal(one(dm4, DMImage(pixels)).image, pixels)


@pytest.mark.parametrize("kind", [8, 23])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize(("shape", "dims"), [((5,), "cx"), ((4, 5), "cyx"), ((2, 4, 5), "icyx")])
def test_colours_become_an_axis(tmp_path, kind, byte_order, shape, dims):
    rgb = np.random.default_rng(1).integers(0, 256, (*shape, 3), "u1")
    ds = one(tmp_path / "a.dm3", DMImage(rgb, data_type=kind), byte_order=byte_order)
    assert "".join(ds.image.dims) == dims
    assert ds.c.values.tolist() == ["r", "g", "b"]
    np.testing.assert_array_equal(ds.image.transpose(..., "c"), rgb)


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize(("kind", "shape"), [(27, (5, 5)), (27, (4, 7)), (28, (6, 4)), (5, (2, 2)), (5, (8, 8))])
def test_packed_transforms_are_made_whole(dm4, byte_order, kind, shape):
    whole = np.fft.fftshift(np.fft.fft2(np.random.default_rng(2).random(shape)))
    ds = one(dm4, DMImage(whole, data_type=kind), byte_order=byte_order)
    assert ds.image.dtype == ("c16" if kind == 28 else "c8")
    np.testing.assert_allclose(ds.image, whole, rtol=1e-5, atol=1e-5)


def test_the_transform_of_a_ramp_is_known(dm4):
    """As Digital Micrograph stores it: rows of 50, -12.5-17.2i, -12.5-4.06i in the middle, else zero."""
    half = np.zeros((5, 3), "c8")
    half[2] = 50, -12.5 - 17.204774j, -12.5 - 4.0614962j
    data = Value([20, 6, 30], half.tobytes())
    ds = one(dm4, DMImage(np.zeros((5, 5), "f4"), data_type=2, more={"Data": data, "DataType": np.uint32(27)}))
    expected = [-12.5 - 4.0614962j, -12.5 - 17.204774j, 50, -12.5 + 17.204774j, -12.5 + 4.0614962j]
    np.testing.assert_allclose(ds.image[2], expected)
    assert not ds.image.values[[0, 1, 3, 4]].any()


@pytest.mark.parametrize(("kind", "shape"), [(5, (2, 4)), (5, (3, 3)), (27, (2, 4, 4)), (28, (4,))])
def test_packed_transforms_of_other_shapes_are_refused(dm4, kind, shape):
    image = DMImage(np.zeros(shape, "f8"), more={"DataType": np.uint32(kind)})
    with pytest.raises(HeaderError, match="Fourier"):
        one(dm4, image)


@pytest.mark.parametrize("kind", [0, 4, 16, 29, 35])
def test_other_types_are_refused_by_number(dm4, kind):
    with pytest.raises(HeaderError, match=f"DataType {kind}"):
        one(dm4, DMImage(np.zeros((2, 2), "u2"), more={"DataType": np.uint32(kind)}))


def test_an_unknown_type_of_plain_numbers_is_read_as_these(dm4):
    ds = one(dm4, DMImage(np.ones((2, 2), "u2"), more={"DataType": np.uint32(99)}))
    assert ds.image.dtype == np.uint16


# Which image ---------------------------------------------------------------------------------------------------------


def test_the_scan_is_shown_rather_than_thumbnail_and_survey(dm4):
    images = (
        DMImage(np.zeros((8, 8, 3), "u1"), data_type=23, name="thumbnail"),
        DMImage(np.ones((7, 7), "f4"), name="Survey"),
        DMImage(transposed(SCAN), name="Diffraction SI"),
        DMImage(transposed(SCAN), name="second"),
    )
    path = write_dm(dm4, *images, thumbnail=0)
    ds = imload(path)
    assert ds.attrs["acquisition"]["title"] == "Diffraction SI"
    assert ds.attrs["metadata"]["datasets"] == [
        {"index": 1, "name": "Survey", "shape": [7, 7], "dtype": "float32"},
        {"index": 2, "name": "Diffraction SI", "shape": [5, 6, 3, 4], "dtype": "uint16"},
        {"index": 3, "name": "second", "shape": [5, 6, 3, 4], "dtype": "uint16"},
    ]
    assert imload(path, dataset_index=0).image.shape == (3, 8, 8)
    assert imload(path, dataset_index="1").image.shape == (7, 7)
    with pytest.raises(ArgumentError, match=r"dataset_index=4.*1 \(Survey"):
        imload(path, dataset_index=4)


def test_the_thumbnail_may_be_last_or_missing(dm4):
    images = DMImage(np.ones((2, 3), "u1")), DMImage(np.zeros((2, 2, 2), "u1"))
    assert imload(write_dm(dm4, *images, thumbnail=1)).image.shape == (2, 3)
    assert imload(write_dm(dm4, *images)).image.shape == (2, 2, 2)


def test_entries_without_pixels_are_no_images(dm4):
    empty = DMImage(np.zeros(1, "u1"), more={"Data": None})
    assert imload(write_dm(dm4, empty, DMImage(np.ones((2, 3), "u1")))).image.shape == (2, 3)


def test_tags_of_a_parent_image_are_not_taken_for_its_own(dm4):
    tags = {"Parent": {"Tags": meta(Format="Spectrum image")}, **meta(Format="Image")}
    assert one(dm4, DMImage(np.zeros((4, 2, 2), "f4"), tags=tags)).image.dims == ("i", "y", "x")


# Axes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "units", "tags", "dims"),
    [
        ((4,), [], {}, "x"),
        ((3, 4), [], meta(Format="Image"), "yx"),
        ((2, 3, 4), [], {}, "iyx"),
        ((2, 3, 4), ["nm", "nm", "s"], {}, "tyx"),
        ((2, 3, 4), ["nm", "nm", "nm"], {}, "zyx"),
        ((2, 3, 4), [], meta(IsSequence=True), "tyx"),
        ((4,), [], meta(Format="Spectrum"), "c"),
        ((4,), ["eV"], {}, "c"),
        ((1, 4), ["nm"], meta(Format="Spectrum"), "c"),
        ((3, 4), ["eV", "nm"], meta(**SPECTRUM_IMAGE), "cx"),
        ((5, 3, 4), [], meta(**SPECTRUM_IMAGE), "cyx"),
        ((5, 3, 4), ["nm", "nm", "nm"], meta(**SPECTRUM_IMAGE), "cyx"),
        ((5, 3, 4), [], {"spim": {"eels": {}}}, "cyx"),
        ((2, 3, 4, 5), [], {}, "yxvu"),
        ((2, 2, 3, 4, 5), [], {}, "iyxvu"),
        ((2, 2, 2, 3, 4, 5), [], meta(**{"Data Order Swapped": True}), "ityxvu"),
    ],
)
def test_axes_are_named_by_tags_and_units(dm4, shape, units, tags, dims):
    pixels = np.arange(np.prod(shape), dtype="i4").reshape(shape)
    ds = one(dm4, DMImage(pixels, scales=[(0, 1, u) for u in units], tags=tags))
    assert "".join(ds.image.dims) == dims
    assert ds.image.size == pixels.size


@pytest.mark.parametrize("swapped", [True, np.int32(1), "true"])
def test_swapped_spectrum_images_have_spectra_as_frames(dm4, swapped):
    pixels = np.arange(3 * 4 * 5, dtype="f4").reshape(3, 4, 5)  # y x c
    tags = meta(**SPECTRUM_IMAGE, **{"Data Order Swapped": swapped})
    path = write_dm(dm4, DMImage(pixels, scales=[(200, 0.5, "eV"), (0, 2, "nm"), (0, 2, "nm")], tags=tags))
    ds = imload(path)
    assert ds.image.dims == ("c", "y", "x")
    np.testing.assert_array_equal(ds.image.transpose("y", "x", "c"), pixels)
    assert ds.c.values[:2].tolist() == [-100, -99.5]
    assert ds.c.units == "eV"
    np.testing.assert_array_equal(imload(path, nav_shape=(2, 5)).image.transpose("y", "x", "c")[1, 1], pixels[1, 2])


def test_an_energy_axis_is_found_by_its_unit_wherever_it_is(dm4):
    scales = [(0, 1, "eV"), (0, 1, "nm"), (0, 1, "nm")]
    ds = one(dm4, DMImage(np.zeros((3, 4, 5), "f4"), scales=scales, tags=meta(**SPECTRUM_IMAGE)))
    assert ds.image.sizes == {"c": 5, "y": 3, "x": 4}


def test_spectra_stored_energy_by_energy_are_no_frames_to_count(dm4):
    path = write_dm(dm4, DMImage(np.zeros((5, 3, 4), "f4"), tags=meta(**SPECTRUM_IMAGE)))
    for arguments in ({"nav_shape": (2, 2)}, {"sync_offset": 1}):
        with pytest.raises(ArgumentError, match="energy by energy"):
            imload(path, **arguments)


# Scans of four axes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "units", "tags", "arguments"),
    [
        (SCAN, [], meta(**{"Data Order Swapped": True}), {}),
        (SCAN, ["1/nm", "1/nm", "nm", "nm"], {}, {}),
        (SCAN, [], meta(**{"Data Order Swapped": False}), {"force_c_order": True}),
        (transposed(SCAN), [], {}, {}),
        (transposed(SCAN), [], meta(**{"Data Order Swapped": False}), {}),
        (transposed(SCAN), ["nm", "nm", "1/nm", "1/nm"], {}, {}),
        (transposed(SCAN), ["1/nm", "1/nm", "nm", "nm"], meta(**{"Data Order Swapped": False}), {}),
    ],
)
def test_both_orders_give_the_same_scan(dm4, stored, units, tags, arguments):
    path = write_dm(dm4, DMImage(stored, scales=[(0, 1, u) for u in units], tags=tags))
    ds = imload(path, **arguments)
    assert ds.image.dims == ("y", "x", "v", "u")
    np.testing.assert_array_equal(ds.image, SCAN)
    np.testing.assert_array_equal(ds.image[1, 2], SCAN[1, 2])
    np.testing.assert_array_equal(imload(path, chunks=None, **arguments).image, SCAN)


@pytest.mark.parametrize("swapped", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [{"nav_shape": (2, 5)}, {"nav_shape": (12,)}, {"sync_offset": 3}, {"sync_offset": -2}, {"sig_shape": (10, 3)}],
)
def test_frames_are_counted_in_scan_order_in_both_orders(dm4, swapped, arguments):
    tags = meta(**{"Data Order Swapped": swapped})
    ds = imload(write_dm(dm4, DMImage(SCAN if swapped else transposed(SCAN), tags=tags)), **arguments)
    nav, sig = arguments.get("nav_shape", (3, 4)), arguments.get("sig_shape", (5, 6))
    frames = np.zeros((40, 30), "u2")
    first = arguments.get("sync_offset", 0)
    frames[max(0, -first) : max(0, -first) + 12 - max(0, first)] = SCAN.reshape(12, 30)[max(0, first) :]
    assert "".join(ds.image.dims) == ("iyx" if len(nav) == 1 else "yxvu")
    np.testing.assert_array_equal(ds.image, frames[: np.prod(nav)].reshape(*nav, *sig))


def test_missing_frames_of_a_transposed_scan_are_blank(dm4):
    path = write_dm(dm4, DMImage(transposed(SCAN)))
    with pytest.warns(EmioWarning, match="4 of 16 frames are missing"):
        image = imload(path, nav_shape=(4, 4)).image
    np.testing.assert_array_equal(image[:3], SCAN)
    assert not image[3].any()


def test_coordinates_belong_to_the_right_axes_in_both_orders(dm4):
    real, reciprocal = (0, 2, "nm"), (2, 0.5, "1/nm")
    for stored, scales, swapped in (
        (SCAN, [reciprocal, reciprocal, real, real], True),
        (transposed(SCAN), [real, real, reciprocal, reciprocal], False),
    ):
        ds = one(dm4, DMImage(stored, scales=scales, tags=meta(**{"Data Order Swapped": swapped})))
        assert (ds.y.units, ds.x.units, ds.v.units, ds.u.units) == ("nm", "nm", "1/nm", "1/nm")
        assert ds.u.values[:3].tolist() == [-1, -0.5, 0]
        assert ds.y.values.tolist() == [0, 2, 4]


def test_one_pattern_of_a_transposed_scan_needs_little_memory(tmp_path):
    """Ten gigabytes of which the disk holds next to nothing; numbers of the process, not ours."""
    path = write_dm(tmp_path / "large.dm4", DMImage((100, 100, 708, 708), dtype="u2"))
    assert path.stat().st_size > 10_000_000_000
    code = (
        "import resource, sys, intake_emio as emio\n"
        "image = emio.imload(sys.argv[1]).image\n"
        "emio.imload(sys.argv[1]).image[:2, :2, 0, 0].values\n"  # everything is imported now
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert image[350, 351].values.shape == (100, 100)\n"
        "print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    before, after = map(int, run.stdout.split())
    assert after - before < 40_000  # KiB


def test_scans_of_titan_x_are_stacks_with_a_shape(dm4):
    tags = {"4D STEM Tags": {"Scan shape X": np.uint32(4), "Scan shape Y": np.uint32(3)}}
    ds = one(dm4, DMImage(SCAN.reshape(12, 5, 6), tags=tags))
    assert ds.image.dims == ("y", "x", "v", "u")
    np.testing.assert_array_equal(ds.image, SCAN)


# Calibration ---------------------------------------------------------------------------------------------------------


def test_origins_are_in_pixels_and_units_are_spelled_out(dm4):
    ds = one(dm4, DMImage(np.zeros((2, 3), "f4"), scales=[(-207, 0.25, " nm "), (10, 0.5, "um")]))
    assert ds.x.values.tolist() == [51.75, 52, 52.25]
    assert ds.y.values.tolist() == [-5, -4.5]
    assert (ds.x.units, ds.y.units) == ("nm", "µm")


def test_axes_without_calibration_have_no_coordinate(dm4):
    ds = one(dm4, DMImage(np.zeros((2, 3, 4), "f4"), scales=[NO_UNITS, (0, 2, "")]))
    assert set(ds.coords) == {"y"}
    assert ds.y.attrs == {}


@pytest.mark.parametrize("scale", [0, np.nan, np.inf])
def test_impossible_scales_make_no_coordinate(dm4, scale):
    path = write_dm(dm4, DMImage(np.zeros((2, 3), "f4"), scales=[(0, scale, "nm")]))
    with pytest.warns(EmioWarning, match="no coordinate"):
        assert not imload(path).coords


def test_brightness_is_noted_and_not_applied(dm4):
    ds = one(dm4, DMImage(np.ones((2, 3), "u2"), brightness=(5, 0.5, "e-")))
    assert ds.image.attrs["brightness"] == {"origin": 5, "scale": 0.5, "units": "e-"}
    assert ds.image.values.max() == 1


# Sets of files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def series(tmp_path):
    def write(count, name="scan_{}.dm3", frames=1):
        paths = []
        for n in range(count):
            shape = (2, 3) if frames == 1 else (frames, 2, 3)
            image = DMImage(np.full(shape, n, "u2"), name="n" * n, scales=[(0, 2, "nm")] * 2)
            paths.append(write_dm(tmp_path / name.format(n), image))
        return paths

    return write


def numbers(ds):
    return ds.image[..., 0, 0].values.tolist()


def test_patterns_are_taken_in_natural_order(series, tmp_path):
    series(12)
    ds = DMSource(tmp_path / "scan_*.dm3").to_dask()
    assert ds.image.dims == ("i", "y", "x")
    assert numbers(ds) == list(range(12))
    assert ds.x.values.tolist() == [0, 2, 4]
    scan = DMSource(tmp_path / "scan_*.dm3", nav_shape=(3, 4)).to_dask()
    assert scan.image.dims == ("y", "x", "v", "u")
    assert scan.u.units == "nm"


def test_lists_keep_their_order_and_duplicates(series, tmp_path):
    paths = series(3)
    wanted = [paths[k] for k in (2, 0, 0)]
    assert numbers(DMSource(wanted).read()) == [2, 0, 0]
    assert numbers(imload(paths[1], files=wanted)) == [2, 0, 0]
    assert numbers(imload(paths[1], files=str([str(p) for p in wanted]))) == [2, 0, 0]
    assert numbers(imload(tmp_path / "nothing", format="dm", files=wanted, sync_offset=1, nav_shape=2)) == [0, 0]


def test_stacks_give_all_their_frames(series):
    assert numbers(DMSource(series(2, frames=3)).read()) == [0, 0, 0, 1, 1, 1]


def test_a_name_that_exists_is_no_pattern(series, tmp_path):
    series(1, "odd[{}].dm3")
    assert imload(tmp_path / "odd[0].dm3").image.dims == ("y", "x")
    series(1, "odd{}.dm3")
    (tmp_path / "odd[0].dm3").unlink()
    assert DMSource(tmp_path / "odd[0].dm3").to_dask().image.dims == ("i", "y", "x")
    with pytest.raises(MissingFileError):
        DMSource(tmp_path / "odd[0].dm3", disable_glob=True).to_dask()


def test_same_offset_reads_only_the_first_header(tmp_path):
    paths = [write_dm(tmp_path / f"{n}.dm4", DMImage(np.full((2, 3), n, "u2"))) for n in range(3)]
    content = paths[1].read_bytes()
    paths[1].write_bytes(b"garbage!" + content[8:])
    assert numbers(DMSource(paths, same_offset=True).read()) == [0, 1, 2]
    paths[2].write_bytes(b"short")
    with pytest.raises(TruncatedError, match="same_offset=False"):
        DMSource(paths, same_offset=True).to_dask()


@pytest.mark.parametrize(
    "odd", [np.zeros((3, 2), "u2"), np.zeros((2, 3), "i2"), np.zeros(4, "u2"), np.zeros((1, 1, 2, 3), "u2")]
)
def test_files_that_do_not_fit_together_are_refused(series, tmp_path, odd):
    paths = series(2)
    write_dm(paths[1], DMImage(odd))
    with pytest.raises(HeaderError, match=r"scan_1\.dm3"):
        DMSource(paths).to_dask()
    if odd.ndim != 2:
        with pytest.raises(HeaderError, match="files of a set"):
            DMSource([paths[1], paths[0]]).to_dask()


def test_byte_orders_must_agree(series):
    paths = series(2)
    write_dm(paths[1], DMImage(np.zeros((2, 3), "u2")), byte_order=">")
    with pytest.raises(HeaderError, match="big-endian"):
        DMSource(paths).to_dask()


def test_missing_files_and_patterns_without_files_are_named(series, tmp_path):
    with pytest.raises(MissingFileError, match="gone"):
        DMSource([*series(1), tmp_path / "gone.dm3"]).to_dask()
    with pytest.raises(MissingFileError, match=r"none_\*"):
        DMSource(tmp_path / "none_*.dm3").to_dask()


# Metadata ------------------------------------------------------------------------------------------------------------

MICROSCOPE = {
    "Voltage": 200e3,
    "Illumination Mode": "STEM NANOPROBE",
    "Imaging Mode": "DIFFRACTION",
    "STEM Camera Length": 135.0,
    "Indicated Magnification": 225e3,
    "Name": "[]",
    "Microscope": "FEI Titan",
    "Stage Position": {"Stage X": 1.5, "Stage Alpha": -3.0},
}


def acquisition(path, **tags):
    return one(path, DMImage(np.zeros((2, 2), "u2"), tags=tags)).attrs["acquisition"]


def test_facts_are_translated(dm4):
    facts = acquisition(
        dm4,
        **{"Microscope Info": MICROSCOPE, "DigiScan": {"Sample Time": 3.5}},
        EELS={"Experimental Conditions": {"Convergence semi-angle (mrad)": 21.0}},
        DataBar={"Acquisition Time (OS)": 1.3115143597000824e17, "Device Name": "DigiScan"},
    )
    assert facts.pop("dwell_time") == pytest.approx(3.5e-6)
    assert facts == {
        "title": "image",
        "beam_energy": 200,
        "camera_length": 135,
        "magnification": 225e3,
        "mode": "STEM NANOPROBE",
        "instrument": "FEI Titan",
        "detector": "DigiScan",
        "stage": {"x": 1.5, "alpha": -3},
        "convergence_angle": 21,
        "start_time": "2016-08-08T15:26:37.000+00:00",
    }


def test_in_diffraction_the_magnification_is_the_camera_length(dm4):
    tem = {**MICROSCOPE, "Illumination Mode": "TEM", "Indicated Magnification": 320.0}
    facts = acquisition(dm4, **{"Microscope Info": tem})
    assert facts["camera_length"] == 320
    assert "magnification" not in facts


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("27.08.2016", "20:54:33", "2016-08-27T20:54:33"),
        ("8/27/2016", "8:55:59 PM", "2016-08-27T20:55:59"),
        ("27/08/2016", "08:55:59 p.m.", "2016-08-27T20:55:59"),
        ("08/09/2016", "08:55:59", None),
        ("today", "noon", None),
    ],
)
def test_written_dates_are_taken_if_they_are_clear(dm4, date, time, expected):
    facts = acquisition(dm4, EELS={"Acquisition": {"Date": date, "Start time": time}})
    assert facts.get("start_time") == expected


def test_tags_of_odd_types_never_stop_reading(dm4):
    odd = {"Voltage": "Imaging", "Indicated Magnification": [], "Stage Position": 5, "Illumination Mode": 7.0}
    image = DMImage(np.zeros((2, 2), "u2"), name=np.zeros(0, "u1"), tags={"Microscope Info": odd, "Meta Data": "none"})
    ds = one(dm4, image)
    assert ds.attrs["acquisition"] == {}


def test_the_whole_tree_is_the_header_but_large_arrays(dm4):
    tags = {"EELS": {"Acquisition": {"Saturation fraction": np.zeros(5000, "f4"), "Emission Current (µA)": 5.0}}}
    header = one(dm4, DMImage(np.zeros((2, 2), "u2"), tags=tags)).attrs["metadata"]["fileheader"]
    assert header["InImageMode"] is True
    eels = header["ImageList"]["0"]["ImageTags"]["EELS"]["Acquisition"]
    assert eels["Emission Current (µA)"] == 5
    assert eels["Saturation fraction"].startswith("5000 x float32")


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (DMImage(np.zeros((2, 2), "u2"), dimensions=[3, 2]), "need 12 bytes, but Data has 8"),
        (DMImage(np.zeros((2, 2), "u2"), dimensions=[2**31, 2**31]), "need 9223372036854775808 bytes"),
        (DMImage(np.zeros((2, 2), "u2"), dimensions=[0, 2]), "no pixels"),
        (DMImage(np.zeros((2, 2), "u2"), dimensions=[]), "no pixels"),
        (DMImage(np.zeros((1,) * 7, "u2")), "at most 6"),
    ],
)
def test_impossible_images_are_refused(dm4, image, match):
    with pytest.raises(HeaderError, match=match):
        one(dm4, image)


def test_files_without_images_are_refused(dm4):
    with pytest.raises(HeaderError, match="no image"):
        imload(write_dm(dm4))


@BOTH
def test_files_cut_anywhere_are_refused(tmp_path, suffix):
    whole = write_dm(tmp_path / f"a{suffix}", DMImage(np.zeros((3, 3), "u2")), end=b"").read_bytes()
    path = tmp_path / f"cut{suffix}"
    for size in range(4, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(EmioError):
            imload(path)


@BOTH
def test_a_file_cut_inside_the_pixels_says_so(tmp_path, suffix):
    path = write_dm(tmp_path / f"a{suffix}", DMImage(np.zeros((200, 300), "u2")))
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(TruncatedError, match=r"ImageList.*not fully written"):
        imload(path)


def test_arrays_of_huge_arrays_are_refused(dm4):
    pixels = Value([20, 20, 2, 2**31, 1], 2**32)
    with pytest.raises(HeaderError, match="no pixels"):
        one(dm4, DMImage(np.zeros((2, 2), "u2"), dimensions=[], more={"Data": pixels}))


@BOTH
def test_wrong_sizes_and_missing_ends_do_not_matter(tmp_path, suffix):
    image = DMImage(np.ones((2, 2), "u2"), more={"Calibrations": None})
    ds = one(tmp_path / f"a{suffix}", image, size=7, end=b"", tags={"ImageSourceList": None})
    assert ds.image.values.all()


# The rest ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [SCAN, transposed(SCAN)])
def test_images_pickle_and_compute_on_threads(dm4, stored):
    source = DMSource(write_dm(dm4, DMImage(stored)), force_c_order=stored is SCAN)
    copy = pickle.loads(pickle.dumps(source.image.image.pixels))
    np.testing.assert_array_equal(copy[...], SCAN)
    with dask.config.set(scheduler="threads"):
        np.testing.assert_array_equal(source.to_dask().image.sum(("v", "u")), SCAN.sum((2, 3)))


@pytest.mark.parametrize("io_backend", ["mmap", "buffered"])
def test_a_little_of_each_of_large_frames_is_read_right(dm4, io_backend):
    scan = np.random.default_rng(3).integers(0, 1000, (2, 3, 210, 200), "u2")  # v u y x
    image = imload(write_dm(dm4, DMImage(scan)), io_backend=io_backend).image
    whole = scan.transpose(2, 3, 0, 1)
    for place in (
        (5, 7),
        (209, 199),
        (slice(3, 5), slice(10, 20, 3)),
        (slice(None), 4),
        (0, slice(None), 1, slice(1, 3)),
    ):
        np.testing.assert_array_equal(image[place], whole[place])


def test_remote_files_are_read(dm4):
    write_dm(dm4, DMImage(transposed(SCAN)))
    memory = fsspec.filesystem("memory")
    memory.pipe("/dm/a.dm4", dm4.read_bytes())
    np.testing.assert_array_equal(imload("memory://dm/a.dm4").image, SCAN)


def test_real_files_are_read_as_expected(real_files):
    files = real_files("dm")
    for name, known in files.expected.items():
        if name.startswith("_"):
            continue
        ds = imload(files.path(name))
        metadata = ds.attrs["metadata"]
        assert list(ds.image.shape) == known["shape"], name
        assert str(ds.image.dtype) == known["dtype"], name
        if known["axes"]:
            assert "".join(ds.image.dims) == known["axes"], name
        pixels = np.ascontiguousarray(ds.image.values)
        assert hashlib.sha256(pixels).hexdigest() == known["sha256"], name
        assert metadata["spacing"] == pytest.approx(known["spacing"]), name
        assert metadata["spacing_units"] == known["units"], name
        assert {axis: float(ds[axis][0]) for axis in known["origin"]} == pytest.approx(known["origin"]), name
        assert ds.attrs["acquisition"]["title"] == known["title"], name


@pytest.mark.peers
def test_rosettasciio_reads_the_same_spectrum_image(dm4):
    peer = pytest.importorskip("rsciio.digitalmicrograph")
    scales = [(1, 2, "nm"), (3, 4, "nm"), (200, 0.5, "eV")]
    pixels = np.arange(60, dtype="f4").reshape(5, 3, 4)
    write_dm(dm4, DMImage(pixels, scales=scales, tags=meta(**SPECTRUM_IMAGE)), tags={"Thumbnails": None})
    ds, theirs = imload(dm4), peer.file_reader(str(dm4))[0]
    np.testing.assert_array_equal(ds.image, theirs["data"])
    for letter, axis in zip("cyx", theirs["axes"], strict=True):
        assert ds[letter].values[0] == pytest.approx(axis["offset"])
        assert ds.attrs["metadata"]["spacing"][letter] == pytest.approx(axis["scale"])


@pytest.mark.parametrize("same_offset", [{}, {"same_offset": True}])
def test_imload_takes_globs_and_lists(series, tmp_path, same_offset):
    paths = series(11)
    assert numbers(imload(tmp_path / "scan_*.dm3", **same_offset)) == list(range(11))
    assert numbers(imload([paths[2], paths[0]], **same_offset)) == [2, 0]
    assert imload(tmp_path / "scan_*.dm3", nav_shape=(2, 5), **same_offset).image.dims == ("y", "x", "v", "u")
