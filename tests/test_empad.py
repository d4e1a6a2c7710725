"""Reading EMPAD data sets."""

import hashlib
import json
import os
import pickle

import dask
import fsspec
import numpy as np
import pytest

import intake_emio as emio
from intake_emio import imload
from intake_emio.errors import ArgumentError, HeaderError, MissingFileError, TruncatedError
from intake_emio.formats.empad import EmpadSource

from .encoders.empad import write_empad

STRIDE = 66560


def numbered(n):
    """Frames whose pixels all differ, and whose first one is the number of the frame."""
    return np.arange(n, dtype="f4")[:, None, None] + np.arange(128 * 128, dtype="f4").reshape(128, 128) / 4


def shown(path, **arguments):
    return imload(path, chunks=None, **arguments).image[..., 0, 0].values.tolist()


@pytest.fixture
def empad(tmp_path):
    def write(frames, **fields):
        return write_empad(tmp_path, frames, **fields)

    return write


def test_a_data_set_worked_by_hand_is_read(tmp_path):
    """Row 1, column 3 of frame 2 is at byte 133644; two more rows behind each frame are no pixels."""
    content = bytearray(2 * 3 * STRIDE)
    for frame in range(6):
        content[frame * STRIDE + 65536 : (frame + 1) * STRIDE] = b"\xff" * 1024
    content[133644:133648] = bytes.fromhex("0000803f")
    content[5 * STRIDE + 65532 : 5 * STRIDE + 65536] = bytes.fromhex("000020c1")
    (tmp_path / "scan_x3_y2.raw").write_bytes(content)
    (tmp_path / "gold.xml").write_text('<root name="gold"><raw_file filename="scan_x3_y2.raw"/></root>')
    ds = imload(tmp_path / "gold.xml")
    assert dict(ds.image.sizes) == {"y": 2, "x": 3, "v": 128, "u": 128}
    assert ds.image.dtype == np.float32
    assert ds.image[0, 2, 1, 3] == 1
    assert ds.image[1, 2, 127, 127] == -10
    assert np.count_nonzero(ds.image) == 2
    assert not ds.coords
    assert ds.attrs["acquisition"] == {"title": "gold", "detector": "EMPAD"}


# Pixels --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [None, "auto", "frame"])
@pytest.mark.parametrize("version", ["0.51", "1.2.2"])
@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (1, 4), (4, 1), (1, 1)])
def test_scans_are_read_the_right_way_round(empad, shape, version, chunks):
    xml, _ = empad(numbered(shape[0] * shape[1]), scan=shape, version=version, footer=np.nan)
    ds = imload(xml, chunks=chunks)
    assert ds.image.dims == ("y", "x", "v", "u")
    np.testing.assert_array_equal(ds.image, numbered(shape[0] * shape[1]).reshape(*shape, 128, 128))


def test_series_are_one_axis_of_images_without_calibration(empad):
    xml, _ = empad(numbered(5), kind="series")
    ds = imload(xml)
    assert ds.image.dims == ("i", "y", "x")
    np.testing.assert_array_equal(ds.image, numbered(5))
    assert not ds.coords


@pytest.mark.parametrize("io_backend", ["mmap", "buffered", "direct"])
def test_all_ways_to_the_disk_read_the_same(empad, io_backend):
    xml, _ = empad(numbered(6), scan=(2, 3))
    try:
        image = imload(xml, chunks=None, io_backend=io_backend).image
    except emio.EmioError as error:
        if "file system cannot do direct reads" not in str(error):
            raise
        pytest.skip(str(error))
    np.testing.assert_array_equal(image, numbered(6).reshape(2, 3, 128, 128))


def test_sources_and_arrays_pickle_and_compute_on_threads(empad):
    xml, _ = empad(numbered(6), scan=(2, 3))
    ds = pickle.loads(pickle.dumps(EmpadSource(xml, remove_nans=True))).to_dask()
    with dask.config.set(scheduler="threads"):
        assert float(pickle.loads(pickle.dumps(ds.image.data.max())).compute()) == numbered(6).max()


@pytest.mark.parametrize("opened", ["acquisition.xml", "scan_x3_y2.raw"])
def test_remote_data_sets_are_read(empad, opened):
    memory = fsspec.filesystem("memory")
    for path in empad(numbered(6), scan=(2, 3)):
        memory.pipe(f"/empad/{path.name}", path.read_bytes())
    try:
        ds = imload(f"memory://empad/{opened}")
        assert ds.attrs["acquisition"]["beam_energy"] == 300
        np.testing.assert_array_equal(ds.image[1, 2], numbered(6)[5])
    finally:
        memory.rm("/empad", recursive=True)


def test_nan_and_negative_pixels_are_kept_or_removed_lazily(empad):
    frames = np.full((4, 128, 128), -2, "f4")
    frames[1, 5, 6:9] = np.nan, np.inf, -np.inf
    xml, _ = empad(frames, scan=(2, 2))
    np.testing.assert_array_equal(imload(xml).image, frames.reshape(2, 2, 128, 128))
    cleaned = EmpadSource(xml, remove_nans="True").to_dask().image
    assert cleaned.chunks is not None
    assert cleaned.dtype == np.float32
    assert cleaned[0, 1, 5, 6:9].values.tolist() == [0, np.inf, -np.inf]
    expected = np.where(np.isnan(frames), 0, frames).reshape(2, 2, 128, 128)
    np.testing.assert_array_equal(cleaned, expected)
    np.testing.assert_array_equal(imload(xml, remove_nans=True, chunks=None).image, expected)
    assert imload(xml).image.data.name != cleaned.data.name
    assert os.path.getsize(xml.with_name("scan_x2_y2.raw")) == 4 * STRIDE


def test_frames_can_be_reshaped(empad):
    xml, _ = empad(numbered(4), scan=(2, 2), version="0.51")
    ds = imload(xml, sig_shape=(64, 256))
    np.testing.assert_array_equal(ds.image, numbered(4).reshape(2, 2, 64, 256))
    assert set(ds.coords) == {"y", "x"}
    assert imload(xml, sig_shape=16384).image.dims == ("y", "x", "u")


# Which files ---------------------------------------------------------------------------------------------------------


def test_xml_and_raw_file_open_the_same(empad):
    xml, raw = empad(numbered(6), scan=(2, 3), version="0.51")
    for path in (xml, raw):
        assert emio.detect(path).format == "empad"
        ds = imload(path)
        assert dict(ds.image.sizes) == {"y": 2, "x": 3, "v": 128, "u": 128}
        assert set(ds.coords) == {"y", "x", "v", "u"}
        assert ds.attrs["acquisition"]["beam_energy"] == 300


@pytest.mark.parametrize("declaration", [False, True])
@pytest.mark.parametrize("name", ["a.xml", "B.XML", "c.dat", "d"])
def test_the_xml_is_recognised_whatever_it_is_called(empad, name, declaration):
    xml, _ = empad(numbered(1), xml_name=name, declaration=declaration)
    assert emio.detect(xml).format == "empad"


@pytest.mark.parametrize(
    "folders", ["/home/empad/projects/", "C:\\empad\\data\\", "../../", "\\\\server\\share/", "file:///etc/"]
)
def test_folders_of_the_other_computer_are_not_followed(empad, folders):
    xml, _ = empad(numbered(4), scan=(2, 2), elements={"raw_file@filename": f"{folders}scan_x2_y2.raw"})
    assert imload(xml).image.shape[:2] == (2, 2)


@pytest.mark.parametrize("name", ["", "..", ".", "a/", "zip::x.raw"])
def test_names_that_are_no_files_are_refused(empad, name):
    xml, _ = empad(numbered(4), scan=(2, 2), elements={"raw_file@filename": name})
    with pytest.raises(HeaderError, match="names no file"):
        imload(xml)


@pytest.mark.parametrize("extension", [".raw", ".RAW"])
def test_a_renamed_raw_file_is_found_by_the_name_of_the_xml(empad, extension):
    xml, raw = empad(numbered(6), scan=(2, 3), xml_name="gold.xml")
    renamed = raw.rename(raw.with_name(f"gold{extension}"))
    assert shown(xml) == [[0, 1, 2], [3, 4, 5]]
    assert shown(renamed) == [[0, 1, 2], [3, 4, 5]]
    assert imload(renamed).attrs["acquisition"]["camera_length"] == 722.5


def test_a_renamed_raw_file_must_fit(empad):
    xml, raw = empad(numbered(5), scan=(2, 3), xml_name="gold.xml")
    raw.rename(raw.with_name("gold.raw"))
    with pytest.raises(MissingFileError, match=r"gold\.xml.*'scan_x3_y2\.raw'.*gold\.raw"):
        imload(xml)
    assert shown(xml, nav_shape=5) == [0, 1, 2, 3, 4]


def test_a_missing_raw_file_is_named(empad):
    xml, raw = empad(numbered(6), scan=(2, 3))
    raw.unlink()
    with pytest.raises(FileNotFoundError, match=r"acquisition\.xml.*'scan_x3_y2\.raw'"):
        imload(xml)


def test_the_xml_of_another_raw_file_is_not_taken(empad):
    _, raw = empad(numbered(6), scan=(2, 3), xml_name="other.xml")
    other = raw.with_name("other.raw")
    other.write_bytes(raw.read_bytes())
    with pytest.raises(emio.EmioError, match="no format fits"):
        imload(other)
    assert imload(raw).attrs["acquisition"]["beam_energy"] == 300


def test_broken_and_foreign_xml_beside_a_raw_file_are_passed_over(empad, tmp_path):
    _, raw = empad(numbered(6), scan=(2, 3), xml_name="z.xml")
    (tmp_path / "a.xml").write_text("<root><raw_file filename='scan_x3_y2.raw'>")
    (tmp_path / "scan_x3_y2.xml").write_text("<html/>")
    assert imload(raw).attrs["acquisition"]["beam_energy"] == 300


@pytest.mark.parametrize(
    ("name", "shape"), [("scan_x3_y2.raw", (2, 3)), ("SCAN_X2_Y3.RAW", (3, 2)), ("series_x6.raw", (6,))]
)
def test_a_raw_file_alone_needs_a_name_that_fits(empad, name, shape):
    xml, raw = empad(numbered(6), raw_name=name)
    xml.unlink()
    found = emio.detect(raw)
    assert (found.format, found.parameters["nav_shape"]) == ("empad", shape)
    ds = imload(raw)
    np.testing.assert_array_equal(ds.image, numbered(6).reshape(*shape, 128, 128))
    assert not ds.coords


@pytest.mark.parametrize("name", ["frames.raw", "scan_x3_y3.raw", "scan_x0_y0.raw"])
def test_any_other_raw_file_needs_a_format_and_a_shape(empad, name):
    xml, raw = empad(numbered(6), raw_name=name)
    xml.unlink()
    with pytest.raises(emio.EmioError, match="no format fits"):
        imload(raw)
    with pytest.raises(HeaderError, match=r"holds 6 frames, no XML.*nav_shape="):
        imload(raw, format="empad")
    assert shown(raw, format="empad", nav_shape=(3, 2)) == [[0, 1], [2, 3], [4, 5]]


# The shape of the scan -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({"raw_name": "scan_x3_y2.raw", "scan": (3, 2)}, (2, 3)),  # the name comes before the rest
        ({"raw_name": "data.raw", "scan": (3, 2), "version": "0.51", "acquire": (1, 6)}, (3, 2)),
        ({"raw_name": "data.raw", "scan": (9, 9), "version": "0.51", "acquire": (1, 6)}, (1, 6)),
        ({"raw_name": "data.raw", "scan": (6, 1), "search": (2, 3)}, (6, 1)),
        ({"raw_name": "scan_x64_y64.raw", "scan": (64, 64), "search": (2, 3)}, (2, 3)),  # recorded in search mode
        ({"raw_name": "scan_x3_y2.raw", "kind": "series"}, (6,)),
        ({"raw_name": "data.raw", "kind": "series", "version": "0.51"}, (6,)),
        ({"raw_name": "data.raw", "kind": "series", "elements": {"count": 7}}, (6,)),
        ({"raw_name": "data.raw", "kind": "series", "elements": {"count": "many", "type": None}}, (6,)),
        ({"raw_name": "series_x6.raw", "scan": (9, 9)}, (6,)),
        ({"raw_name": "scan_x3_y2.raw", "version": "0.51", "elements": {"pix_x": "-3", "pix_y": "-2"}}, (2, 3)),
    ],
)
def test_the_first_shape_that_fits_the_raw_file_is_taken(empad, fields, shape):
    xml, _ = empad(numbered(6), **fields)
    image = imload(xml).image
    assert image.shape[:-2] == shape
    np.testing.assert_array_equal(image[..., 0, 0].values.reshape(-1), np.arange(6))


@pytest.mark.parametrize(
    "elements",
    [
        {"pix_x": 3, "pix_y": 3},
        {"pix_x": 0, "pix_y": 0},
        {"pix_x": -3, "pix_y": -2},
        {"pix_x": "three", "pix_y": 2},
        {"pix_x": 2**31, "pix_y": 2**31},
        {"pix_x": "9" * 5000, "pix_y": 1},
        {"pix_x": "", "pix_y": 2},
    ],
)
def test_a_shape_that_does_not_fit_is_refused_with_the_sizes(empad, elements):
    xml, _ = empad(numbered(6), raw_name="data.raw", scan=(7, 7), version="0.51", elements=elements)
    with pytest.raises(HeaderError, match=r"data\.raw has 399360 bytes.*6 frames.*search.*\(64, 64\).*nav_shape="):
        imload(xml)


def test_the_shape_can_be_overridden_and_then_the_scan_is_not_calibrated(empad):
    xml, _ = empad(numbered(6), scan=(2, 3), version="0.51")
    ds = imload(xml, nav_shape=(3, 2))
    assert set(ds.coords) == {"v", "u"}
    assert shown(xml, nav_shape=(3, 2)) == [[0, 1], [2, 3], [4, 5]]
    assert shown(xml, nav_shape="(2, 2)", sync_offset=1) == [[1, 2], [3, 4]]
    assert shown(xml, sync_offset=2) == [[2, 3, 4], [5, 0, 0]]
    assert shown(xml, sync_offset=-1, nav_shape=3) == [0, 0, 1]
    assert set(imload(xml, nav_shape=(2, 3), sync_offset=2).coords) == {"y", "x", "v", "u"}
    assert imload(xml, nav_shape=(1, 2, 3)).image.dims == ("i", "y", "x", "v", "u")
    ds = imload(xml, nav_shape=6)
    assert ds.image.dims == ("i", "y", "x")
    assert set(ds.coords) == {"y", "x"}  # of the detector
    assert ds.x.attrs["units"] == "1/nm"
    with pytest.warns(emio.EmioWarning, match="2 of 8 frames are missing"):
        assert shown(xml, nav_shape=(2, 4)) == [[0, 1, 2, 3], [4, 5, 0, 0]]


# Calibration and facts -----------------------------------------------------------------------------------------------


def test_new_software_gives_the_field_of_view_of_the_longer_side_too_small(empad):
    xml, raw = empad(numbered(1), scan=(64, 32), field_of_view=1.272412341559544e-06, scale_factor=0.72)
    os.truncate(raw, 64 * 32 * STRIDE)
    ds = imload(xml)
    np.testing.assert_allclose([ds.y[1], ds.x[1]], 27.6131150, rtol=1e-8)
    assert ds.y[0] == ds.x[0] == 0
    assert ds.y.attrs == ds.x.attrs == {"units": "nm"}
    assert set(ds.coords) == {"y", "x"}


def test_old_software_gives_the_field_of_view_of_each_axis(empad):
    xml, _ = empad(numbered(16), scan=(4, 4), version="0.51", field_of_view=(4.5663426505682195e-06, 2e-6))
    ds = imload(xml)
    np.testing.assert_allclose(ds.y[1], 1141.5857, rtol=1e-7)
    np.testing.assert_allclose(ds.x[1], 500)


@pytest.mark.parametrize("version", ["0.51", "1.2.2"])
@pytest.mark.parametrize("value", ["None", "", 0, -1e-6, "nan", "inf", "[]", "[1e-6]", "x", None])
def test_a_field_of_view_that_is_none_makes_no_coordinate(empad, version, value):
    name = "optics.get_full_scan_field_of_view" if version == "0.51" else "full_scan_field_of_view/x"
    if version == "0.51" and isinstance(value, int | float):
        value = [value, value]
    xml, _ = empad(
        numbered(2), version=version, field_of_view=None, elements={f"iom_measurements/{name}": value}, pixel_size=None
    )
    assert not imload(xml).coords


@pytest.mark.parametrize("factor", [None, 0, "nan", "None"])
def test_without_its_factor_the_field_of_view_means_nothing(empad, factor):
    xml, _ = empad(
        numbered(2),
        field_of_view=None,
        elements={
            "iom_measurements/full_scan_field_of_view/x": 1e-6,
            "iom_measurements/full_scan_field_of_view/scale_factor": factor,
        },
    )
    assert not imload(xml).coords


def test_detector_pixels_are_counted_from_the_centre(empad):
    xml, _ = empad(numbered(2), version="0.51", pixel_size=1.826537060227288e-10)
    ds = imload(xml)
    np.testing.assert_allclose(ds.v[0], -11.689837, rtol=1e-7)
    np.testing.assert_allclose(ds.v[1] - ds.v[0], 0.1826537, rtol=1e-7)
    assert abs(float(ds.u[64])) < 1e-12
    assert ds.v.attrs == ds.u.attrs == {"units": "1/nm"}


def test_the_users_detector_calibration_wins(empad):
    xml, _ = empad(numbered(2), version="0.51")
    np.testing.assert_allclose(imload(xml, q_calibration="0.5").v, (np.arange(128) - 64) * 0.5)
    xml, _ = empad(numbered(2))
    assert set(imload(xml).coords) == {"y", "x"}
    assert set(imload(xml, q_calibration=0.5).coords) == {"y", "x", "v", "u"}
    xml, _ = empad(numbered(2), kind="series")
    assert imload(xml, q_calibration=0.5).y.attrs == {"units": "1/nm"}


@pytest.mark.parametrize("version", ["0.51", "1.2.2"])
def test_facts_are_in_the_units_of_all_formats(empad, version):
    xml, _ = empad(numbered(2), version=version, elements={"exposure_time": 1.5})
    assert imload(xml).attrs["acquisition"] == {
        "title": "acquisition_1",
        "detector": "EMPAD",
        "start_time": "2019-06-06T13:30:00.164675",
        "beam_energy": 300,
        "camera_length": 722.5,
        "exposure_time": 0.0015,
    }


def test_facts_that_are_missing_or_odd_are_left_out(empad):
    odd = {"iom_measurements/high_voltage": "None", "iom_measurements/nominal_camera_length": "[1, 2]"}
    xml, _ = empad(numbered(2), start_time="yesterday", elements={**odd, "exposure_time": ""})
    assert imload(xml).attrs["acquisition"] == {"title": "acquisition_1", "detector": "EMPAD"}


def test_the_whole_xml_is_kept_and_is_json(empad):
    xml, _ = empad(numbered(2), version="0.51")
    attrs = imload(xml).attrs
    header = attrs["metadata"]["fileheader"]
    assert header["software_version"] == "0.51 211118"
    assert header["grid_measurements"] == {"bias_current": "2.79 uA"}
    assert header["iom_measurements"]["optics.get_magnicication"] == "None"
    assert [s["mode"] for s in header["scan_parameters"]] == ["search", "acquire"]
    assert json.loads(json.dumps(attrs, allow_nan=False))["format"] == "empad"


def test_deep_xml_does_no_harm(tmp_path, empad):
    xml, _ = empad(numbered(2), scan=(1, 2))
    xml.write_text(xml.read_text().replace("</root>", "<a>" * 5000 + "</a>" * 5000 + "</root>"))
    assert imload(xml).image.shape[:2] == (1, 2)


# Refused -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nav_shape", [None, (1, 1)])
@pytest.mark.parametrize("size", [0, 1, STRIDE - 1, 2 * STRIDE - 4, 2 * STRIDE + 1])
def test_a_raw_file_that_is_cut_off_is_refused(empad, size, nav_shape):
    xml, raw = empad(numbered(3))
    os.truncate(raw, size)
    with pytest.raises(TruncatedError, match=rf"scan_x3_y1\.raw: has {size} bytes.*66560"):
        imload(xml, nav_shape=nav_shape)


def test_frames_without_footers_are_recognised_and_the_way_out_is_told(empad):
    xml, raw = empad(numbered(3))
    numbered(3).tofile(raw)
    with pytest.raises(TruncatedError, match=r"second generation.*format='raw', sig_shape=\(128, 128\)"):
        imload(xml)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "broken XML"),
        ("<root><raw_file filename='scan_x3_y1.raw'/>", "broken XML"),
        ("<root><pix_x>3</pix_x></root>", "not the XML of an EMPAD"),
        ("<root><raw_file/></root>", "not the XML of an EMPAD"),
        ("<scan><raw_file filename='scan_x3_y1.raw'/></scan>", "not the XML of an EMPAD"),
        ("<?xml version='1.0' encoding='klingon'?><root/>", r"a\.xml"),
        ("just text", "broken XML"),
        ("\0\0\0", "broken XML"),
    ],
)
def test_broken_and_foreign_xml_are_refused(empad, text, match):
    xml, _ = empad(numbered(3), xml_name="a.xml")
    xml.write_text(text)
    with pytest.raises(HeaderError, match=match):
        imload(xml, format="empad")


def test_entities_are_refused(empad):
    xml, _ = empad(numbered(3))
    bomb = '<!DOCTYPE root [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    xml.write_text(bomb + xml.read_text().replace("2.79 uA", "&b;"))
    with pytest.raises(HeaderError, match="entities"):
        imload(xml)


def test_other_xml_is_not_taken_for_an_empads(tmp_path):
    for text in ("<html><body/></html>", "<root><a/></root>", "<a><raw_file filename='x.raw'/></a>"):
        (tmp_path / "other.xml").write_text(text)
        with pytest.raises(emio.EmioError, match="no format fits"):
            emio.detect(tmp_path / "other.xml")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"sig_shape": (130, 128)}, "sig_shape"),
        ({"sig_shape": (128, 64)}, "sig_shape"),
        ({"sync_offset": 6}, "sync_offset=6 is out of range"),
        ({"sync_offset": -6, "nav_shape": (2, 2)}, "out of range"),
        ({"q_calibration": 0}, "q_calibration"),
        ({"q_calibration": "much"}, "q_calibration"),
        ({"remove_nans": "perhaps"}, "remove_nans"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(empad, arguments, match):
    xml, _ = empad(numbered(6), scan=(2, 3))
    with pytest.raises(ArgumentError, match=match):
        imload(xml, **arguments)


# Real files, and other readers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["map4x4.xml", "stack_images.xml"])
def test_real_files_are_read_as_expected(real_files, tmp_path, name):
    files = real_files("empad")
    expected = files.expected[name]
    with open(files.path(name), "rb") as source:
        (tmp_path / name).write_bytes(source.read())
    np.arange(expected["make"]["floats"]).astype("<f4").tofile(tmp_path / expected["make"]["file"])
    ds = imload(tmp_path / name, chunks=None)
    assert list(ds.image.shape) == expected["shape"]
    assert str(ds.image.dtype) == expected["dtype"]
    assert "".join(ds.image.dims) == expected["axes"]
    assert hashlib.sha256(np.ascontiguousarray(ds.image.values, "<f4")).hexdigest() == expected["sha256"]
    assert ds.attrs["metadata"]["spacing"] == pytest.approx(expected["spacing"])
    assert ds.attrs["metadata"]["spacing_units"] == expected["units"]
    assert {a: ds[a].values[0] for a in expected["origin"]} == pytest.approx(expected["origin"])
    assert ds.attrs["acquisition"]["start_time"] == expected["start_time"]
    assert ds.attrs["acquisition"].get("beam_energy") == expected.get("beam_energy_keV")


@pytest.mark.peers
@pytest.mark.parametrize("version", ["0.51", "1.2.2"])
def test_rosettasciio_reads_the_same(empad, version):
    rsciio = pytest.importorskip("rsciio.empad")
    xml, _ = empad(numbered(6), scan=(2, 3), version=version)
    theirs = rsciio.file_reader(str(xml))[0]
    ours = imload(xml)
    np.testing.assert_array_equal(ours.image, theirs["data"])
    if version == "1.2.2":
        np.testing.assert_allclose(float(ours.x[1]), theirs["axes"][1]["scale"])


@pytest.mark.peers
def test_libertem_reads_the_same(empad):
    libertem = pytest.importorskip("libertem.api")
    xml, _ = empad(numbered(6), scan=(2, 3))
    with libertem.Context.make_with("inline") as context:
        theirs = context.load("empad", path=str(xml))
        assert tuple(theirs.shape) == (2, 3, 128, 128)
        total = context.run(context.create_sum_analysis(dataset=theirs)).intensity.raw_data
    np.testing.assert_allclose(imload(xml).image.sum(("y", "x")), total)
