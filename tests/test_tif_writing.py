"""Writing TIFF files: what ImageJ, tifffile and readers of OME-XML find in them, and that everything comes back."""

import itertools
import json
import os
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr
from defusedxml.ElementTree import fromstring

from intake_emio import imload, imsave
from intake_emio.errors import ArgumentError
from intake_emio.formats import _tif_pixels, _tif_writing
from intake_emio.formats.tif import TifSource, file_axes, ome_file_axes, save, save_ome
from intake_emio.record import describe

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
SIZES = {"t": 2, "z": 3, "c": 4, "y": 5, "x": 6, "v": 7, "u": 8, "i": 3, "s": 2, "e": 3}
EXTENSIONS = (".tif", ".ome.tif")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def image(dims, dtype="u2", attrs=None, **coords):
    """An image whose pixels are all different, as far as the type goes."""
    shape = tuple(len(coords[a]) if a in coords and not isinstance(coords[a], tuple) else SIZES[a] for a in dims)
    pixels = np.arange(np.prod(shape)).reshape(shape)
    pixels = (pixels % 2).astype(dtype) if np.dtype(dtype).kind == "b" else (pixels % 127).astype(dtype)
    return xr.DataArray(pixels, dims=tuple(dims), coords=coords, attrs=attrs or {}, name="image")


def even(axis, step, units, origin=0.0):
    """Coordinate of an evenly calibrated axis."""
    return axis, origin + step * np.arange(SIZES[axis]), {"units": units}


def written(what, name="image.tif", **how):
    """Write one file, and return its name."""
    (save_ome if ".ome." in name else save)(what, name, record=describe(what), **how)
    return name


def come_back(what, name="image.tif", **how):
    """Save and load; the image as it came back, in memory."""
    (path,) = imsave(what, name, overwrite=True, **how)
    return imload(path).image.compute()


def series(name):
    """Kind, axes, shape and pixels of the only series, as tifffile reads them."""
    with tifffile.TiffFile(name) as tiff:
        (only,) = tiff.series
        return only.kind, only.axes, only.shape, only.asarray()


def tag(name, code):
    with tifffile.TiffFile(name) as tiff:
        found = tiff.pages.first.tags.get(code)
        return None if found is None else found.value


def description(name):
    return tag(name, 270).split("\n")


def said(name):
    """Description of ImageJ as a mapping, from its text."""
    return dict(line.split("=", 1) for line in description(name) if "=" in line)


# For ImageJ ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "axes"),
    [("yx", "YX"), ("zyx", "ZYX"), ("tzcyx", "TZCYX"), ("ctzyx", "TZCYX"), ("cyxt", "TCYX"), ("yxc", "CYX"),
     ("yxvu", "ZYX"), ("tyxvu", "ZYX"), ("vuyx", "ZYX"), ("vu", "YX"), ("x", "YX"), ("tx", "YX")],
)  # fmt: skip
@pytest.mark.parametrize("compress", [None, True])
def test_imagej_reads_what_it_knows(dims, axes, compress):
    kind, found, shape, pixels = series(written(image(dims), compress=compress))
    assert (kind, found) == ("imagej", axes)
    if axes == dims.upper():
        np.testing.assert_array_equal(pixels, image(dims))
    assert np.prod(shape) == image(dims).size


def test_pages_of_a_scan_are_its_patterns_one_after_the_other():
    scan = image("yxvu")
    _, _, _, pixels = series(written(scan))
    np.testing.assert_array_equal(pixels, scan.values.reshape(30, 7, 8))
    assert said("image.tif")["slices"] == "30"


def test_pages_of_a_hyperstack_go_through_channels_first_then_slices_then_frames():
    stack = image("ctzyx")
    with tifffile.TiffFile(written(stack)) as tiff:
        assert len(tiff.pages) == 2 * 3 * 4
        page = tiff.pages[1 * 3 * 4 + 2 * 4 + 3].asarray()
    np.testing.assert_array_equal(page, stack.isel(t=1, z=2, c=3))


@pytest.mark.parametrize(("dims", "rows"), [("yx", "y"), ("xy", "x"), ("zxy", "x"), ("uv", "u"), ("yxuv", "u")])
def test_rows_of_a_page_are_the_last_axis_but_one(dims, rows):
    with tifffile.TiffFile(written(image(dims))) as tiff:
        assert tiff.pages.first.imagelength == SIZES[rows]


def test_the_description_is_that_of_imagej():
    """Worked by hand: pixels of 0.25 x 0.5 nm, slices of 2 nm from 4 nm on, two frames, one every 20 ms."""
    coords = {"x": even("x", 0.25, "nm"), "y": even("y", 0.5, "nm"), "z": even("z", 2.0, "nm", 4.0)}
    coords |= {"t": even("t", 20.0, "ms"), "c": ["HAADF", "BF"]}
    name = written(image("tzcyx", **coords))
    assert description(name) == [
        "ImageJ=1.11a", "images=12", "channels=2", "slices=3", "frames=2", "hyperstack=true", "mode=composite",
        "loop=false", "unit=nm", "spacing=2.0", "zorigin=-2.0", "finterval=0.02",
    ]  # fmt: skip
    assert (tag(name, 282), tag(name, 283), tag(name, 296)) == ((4, 1), (2, 1), 1)
    with tifffile.TiffFile(name) as tiff:
        assert tiff.imagej_metadata["Labels"] == ["HAADF", "BF"] * 6
        assert json.loads(tiff.imagej_metadata["Info"])["emio"]["axes"] == "tzcyx"


@pytest.mark.parametrize(
    ("units", "step", "told", "per_unit"),
    [("µm", 0.5, r"\u00B5m", (2, 1)), ("Å", 4.0, r"\u00C5", (1, 4)), ("nm", 0.3, "nm", (10, 3)),
     ("m", 2e-9, "nm", (1, 2)), ("1/m", 2e8, "1/nm", (5, 1)), ("m", 4e-6, "m", (250000, 1)),
     ("mrad", 0.1, "mrad", (10, 1)), ("a=b\nimages=9", 0.5, r"a\u003Db\u000Aimages\u003D9", (2, 1))],
)  # fmt: skip
def test_units_are_told_in_plain_characters_and_sizes_that_the_tags_can_hold(units, step, told, per_unit):
    name = written(image("yx", x=even("x", step, units), y=even("y", step, units)))
    assert said(name)["unit"] == told
    assert "yunit" not in said(name)
    assert tag(name, 282) == tag(name, 283) == per_unit
    assert f"\nunit={told}\n".encode() in Path(name).read_bytes()  # the very characters


@pytest.mark.parametrize(
    ("coords", "entries"),
    [
        ({}, {"unit": "pixel"}),
        ({"x": even("x", 1e-9, "V"), "y": even("y", 1e9, "V")}, {"unit": "pixel"}),
        ({"x": ("x", [0, 1, 3, 4, 5, 6], {"units": "nm"})}, {"unit": "pixel"}),
        ({"x": ("x", np.arange(6) * 0.5)}, {"unit": "pixel"}),
        ({"y": even("y", 2.0, "nm")}, {"unit": "pixel", "yunit": "nm"}),
        ({"x": even("x", 1.0, "nm"), "y": even("y", 0.002, "µm")}, {"unit": "nm"}),
        ({"x": even("x", 1.0, "eV"), "y": even("y", 1.0, "nm")}, {"unit": "eV", "yunit": "nm"}),
        ({"x": even("x", 1.0, "nm"), "z": even("z", 2.0, "µm")}, {"unit": "nm", "spacing": "2000.0"}),
        ({"x": even("x", 1.0, "1/nm"), "z": even("z", 2.0, "µm")},
         {"unit": "1/nm", "zunit": r"\u00B5m", "spacing": "2.0"}),
        ({"x": even("x", 0.5, "nm", -1.0)}, {"unit": "nm", "xorigin": "2.0"}),
        ({"x": even("x", -0.5, "nm", 9.0)}, {"unit": "nm"}),
        ({"t": even("t", 2.0, "min")}, {"unit": "pixel", "finterval": "120.0"}),
        ({"t": even("t", 2.0, "days of rain")}, {"unit": "pixel", "finterval": "2.0", "tunit": "days of rain"}),
    ],
)  # fmt: skip
def test_calibration_is_told_as_far_as_imagej_knows_it(coords, entries):
    plain = ("ImageJ", "images", "slices", "frames", "hyperstack", "mode", "loop")
    found = said(written(image("tzyx", **coords)))
    assert {key: value for key, value in found.items() if key not in plain} == entries


def test_of_a_descending_axis_the_size_of_a_pixel_is_told():
    assert tag(written(image("yx", x=even("x", -0.5, "nm"))), 282) == (2, 1)


def test_patterns_are_measured_along_their_own_axes():
    coords = {"v": even("v", 2.0, "mrad"), "u": even("u", 0.5, "mrad"), "x": even("x", 3.0, "nm")}
    name = written(image("yxvu", **coords))
    assert (tag(name, 282), tag(name, 283), said(name)["unit"]) == ((2, 1), (1, 2), "mrad")


@pytest.mark.parametrize(("channels", "mode"), [(1, "grayscale"), (2, "composite"), (7, "composite"), (8, "grayscale")])
def test_few_channels_are_shown_in_one_picture(channels, mode):
    name = written(image("cyx", c=[f"channel {k}" for k in range(channels)]))
    assert said(name)["mode"] == mode


def test_channels_with_numbers_have_no_labels():
    with tifffile.TiffFile(written(image("cyx", c=[1.5, 2.5]))) as tiff:
        assert "Labels" not in tiff.imagej_metadata


@pytest.mark.parametrize(("dtype", "kind"), [("u1", "imagej"), ("u2", "shaped"), ("f4", "imagej")])
@pytest.mark.parametrize("colours", ["rgb", "rgba"])
@pytest.mark.parametrize("compress", [None, True])
def test_red_green_and_blue_are_colours(dtype, kind, colours, compress):
    stack = image("zcyx", dtype, c=list(colours))
    name = written(stack, compress=compress)
    found, axes, _, pixels = series(name)
    if dtype == "f4":  # no colours of any program
        assert (found, axes, tag(name, 262)) == (kind, "ZCYX", 1)
    else:
        assert (found, axes, tag(name, 262)) == (kind, "ZYXS", 2)
        assert tag(name, 338) == ((2,) if "a" in colours else None)  # alpha that was not multiplied
        np.testing.assert_array_equal(pixels, stack.transpose(*"zyxc"))
    np.testing.assert_array_equal(imload(name).image, stack)


# In tifffile's own way -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "dtype", "axes"),
    [("iyx", "u2", "IYX"), ("iyxvu", "u2", "IYXVU"), ("zyx", "f8", "ZYX"), ("czyx", "u4", "ZCYX"),
     ("yxvu", "i4", "YXVU"), ("syx", "u1", "SYX"), ("esyx", "f4", "ESYX"), ("yx", "?", "YX"), ("yx", "c16", "YX"),
     ("yx", "f2", "YX"), ("yx", "i8", "YX"), ("yx", "i1", "YX"), ("zyx", "u8", "ZYX")],
)  # fmt: skip
@pytest.mark.parametrize("compress", [None, True])
def test_what_imagej_does_not_know_is_told_in_json(dims, dtype, axes, compress):
    name = written(image(dims, dtype), compress=compress)
    kind, found, shape, pixels = series(name)
    assert (kind, found, pixels.dtype) == ("shaped", axes, np.dtype(dtype))
    stored = image(dims, dtype).transpose(*axes.lower())
    assert shape == stored.shape
    np.testing.assert_array_equal(pixels, stored)
    told = json.loads(tag(name, 270))
    assert (told["axes"], told["shape"], told["emio"]["axes"]) == (axes, list(shape), dims)
    assert tag(name, 262) == 1


def test_a_length_is_told_in_pixels_per_centimetre():
    coords = {"x": even("x", 0.1, "nm"), "y": even("y", 2.0, "µm")}
    name = written(image("yx", "f8", **coords))
    assert (tag(name, 282), tag(name, 283), tag(name, 296)) == ((10**8, 1), (5000, 1), 3)
    unknown = written(image("yx", "f8", **{**coords, "y": even("y", 2.0, "eV")}))
    assert (tag(unknown, 282), tag(unknown, 296)) == ((1, 1), 1)
    too_fine = written(image("yx", "f8", x=even("x", 1e-3, "pm"), y=even("y", 1e-3, "pm")))
    assert (tag(too_fine, 282), tag(too_fine, 296)) == ((1, 1), 1)


def test_text_of_tags_is_ascii():
    name = written(image("iyx", x=even("x", 1.0, "µm"), attrs={"specimen": "Å µ 金"}))
    assert tag(name, 270).isascii()
    assert tag(name, 305) == "intake-emio"
    assert imload(name).image.attrs["specimen"] == "Å µ 金"


# OME-TIFF ------------------------------------------------------------------------------------------------------------


def ome(name):
    """OME element of a file."""
    with tifffile.TiffFile(name) as tiff:
        text = tiff.pages.first.tags[270].value
        assert tiff.is_ome
        assert tiff.ome_metadata == text
    return fromstring(text.encode())


FULL = {
    "x": even("x", 0.25, "nm"), "y": even("y", 0.5, "Å"), "z": even("z", 2.0, "um"), "t": even("t", 20.0, "ms"),
    "c": ["HAADF", 'B"F <&>\x07µ'],
}  # fmt: skip


def test_ome_xml_tells_sizes_units_channels_title_and_time():
    facts = {"title": "gold\x01", "start_time": "2024-02-03T04:05:06"}
    root = ome(written(image("tzcyx", attrs={"acquisition": facts}, **FULL), "image.ome.tif"))
    assert root.tag == OME + "OME"
    assert [child.tag for child in root] == [OME + "Image", OME + "StructuredAnnotations"]
    only = root[0]
    assert [child.tag for child in only] == [OME + "AcquisitionDate", OME + "Pixels", OME + "AnnotationRef"]
    assert only.get("Name") == "gold?"
    assert only[0].text == "2024-02-03T04:05:06"
    pixels = dict(only[1].attrib)
    assert pixels.pop("ID")
    assert pixels == {
        "DimensionOrder": "XYCZT", "Type": "uint16", "SizeX": "6", "SizeY": "5", "SizeC": "2", "SizeZ": "3",
        "SizeT": "2", "PhysicalSizeX": "0.25", "PhysicalSizeXUnit": "nm", "PhysicalSizeY": "0.5",
        "PhysicalSizeYUnit": "Å", "PhysicalSizeZ": "2.0", "PhysicalSizeZUnit": "µm", "TimeIncrement": "20.0",
        "TimeIncrementUnit": "ms",
    }  # fmt: skip
    channels = only[1].findall(OME + "Channel")
    assert [one.get("Name") for one in channels] == ["HAADF", 'B"F <&>?µ']
    assert [one.get("SamplesPerPixel") for one in channels] == ["1", "1"]
    (planes,) = only[1].findall(OME + "TiffData")
    assert planes.attrib == {"IFD": "0", "PlaneCount": "12"}


def test_our_account_is_an_annotation_of_the_image():
    root = ome(written(image("tzcyx", **FULL), "image.ome.tif"))
    (annotation,) = root.iter(OME + "MapAnnotation")
    assert annotation.get("Namespace") == "intake-emio"
    assert [one.get("ID") for one in root.iter(OME + "AnnotationRef")] == [annotation.get("ID")]
    (entry,) = annotation.iter(OME + "M")
    assert entry.get("K") == "emio"
    assert json.loads(entry.text)["axes"] == "tzcyx"
    assert len({e.get("ID") for e in root.iter() if e.get("ID")}) == sum(bool(e.get("ID")) for e in root.iter()) - 1


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("?", "bit"), ("i1", "int8"), ("i2", "int16"), ("i4", "int32"), ("u1", "uint8"), ("u2", "uint16"),
     ("u4", "uint32"), ("f4", "float"), ("f8", "double"), ("c8", "complex"), ("c16", "double-complex")],
)  # fmt: skip
@pytest.mark.parametrize("compress", [None, True])
def test_every_pixel_type_of_ome_is_written(dtype, name, compress):
    what = image("czyx", dtype)
    (pixels,) = ome(written(what, "image.ome.tif", compress=compress)).iter(OME + "Pixels")
    assert pixels.get("Type") == name
    kind, axes, _, found = series("image.ome.tif")
    assert (kind, axes) == ("ome", "ZCYX")
    np.testing.assert_array_equal(found, what.transpose(*"zcyx"))


@pytest.mark.parametrize("dims", ["x", "tx", "zc", "yx", "xy", "cyxt"])
def test_axes_that_are_not_there_have_length_one(dims):
    what = image(dims)
    (pixels,) = ome(written(what, "image.ome.tif")).iter(OME + "Pixels")
    sizes = {axis: int(pixels.get(f"Size{axis.upper()}")) for axis in "tzcyx"}
    if dims.endswith("xy"):
        sizes["x"], sizes["y"] = sizes["y"], sizes["x"]
    assert sizes == {axis: SIZES[axis] if axis in dims else 1 for axis in "tzcyx"}


def test_colours_are_samples_of_one_channel():
    what = image("tcyx", "u1", c=list("rgb"))
    root = ome(written(what, "image.ome.tif"))
    (channel,) = root.iter(OME + "Channel")
    assert channel.get("SamplesPerPixel") == "3"
    assert next(root.iter(OME + "Pixels")).get("SizeC") == "3"
    kind, axes, _, pixels = series("image.ome.tif")
    assert (kind, axes) == ("ome", "TYXS")
    np.testing.assert_array_equal(pixels, what.transpose(*"tyxc"))


@pytest.mark.parametrize("units", ["1/nm", "mrad", "pixel", None])
def test_what_is_no_length_is_not_told(units):
    coords = ("x", np.arange(6) * 0.5, {"units": units} if units else {})
    (pixels,) = ome(written(image("yx", x=coords), "image.ome.tif")).iter(OME + "Pixels")
    assert not [key for key in pixels.attrib if key.startswith("Physical")]


def test_readers_that_do_not_know_our_account_find_the_calibration():
    """As our own reader finds it, once the account is made unreadable."""
    for extension in EXTENSIONS:
        name = written(image("tzcyx", **{**FULL, "c": ["HAADF", "BF"]}), f"image{extension}")
        content = Path(name).read_bytes()
        hidden = content.replace(b"emio", b"oime").replace("emio".encode("utf-16-le"), "oime".encode("utf-16-le"))
        Path(name).write_bytes(hidden)
        ds = imload(name)
        assert "".join(ds.image.dims) == "tczyx"
        spacing, units = ds.attrs["metadata"]["spacing"], ds.attrs["metadata"]["spacing_units"]
        nanometres = {"nm": 1.0, "Å": 0.1, "µm": 1e3, "s": 1.0, "ms": 1e-3}
        found = {axis: step * nanometres[units[axis]] for axis, step in spacing.items()}
        assert found == pytest.approx({"x": 0.25, "y": 0.05, "z": 2000.0, "t": 0.02})
        if extension == ".ome.tif":
            assert ds.image.c.values.tolist() == ["HAADF", "BF"]


# Size and compression ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("compress", [None, True])
def test_large_files_are_bigtiff(monkeypatch, extension, compress):
    name = written(image("zyx"), f"small{extension}", compress=compress)
    with tifffile.TiffFile(name) as tiff:
        assert not tiff.is_bigtiff
    monkeypatch.setattr(_tif_writing, "PACKED_BYTES" if compress else "CLASSIC_BYTES", 1000)
    name = written(image("zyx"), f"large{extension}", compress=compress)
    with tifffile.TiffFile(name) as tiff:
        assert tiff.is_bigtiff
        assert tiff.series[0].kind == ("ome" if ".ome." in extension else "shaped")  # ImageJ does not know BigTIFF
    xr.testing.assert_equal(imload(name).image, image("zyx"))


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize(
    ("dtype", "predictor"), [("u1", 2), ("i2", 2), ("u4", 2), ("f4", None), ("f8", None), ("c8", None), ("?", None)]
)
def test_compression_is_deflate_and_differences_for_integers(extension, dtype, predictor):
    what = image("zyx", dtype)
    packed = written(what, f"packed{extension}", compress=True)
    assert (tag(packed, 259), tag(packed, 317)) == (8, predictor)
    for compress in (None, False):
        plain = written(what, f"plain{extension}", compress=compress)
        assert (tag(plain, 259), tag(plain, 317)) == (1, None)
    for name in (packed, plain):
        xr.testing.assert_equal(imload(name).image, what)


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4"])
@pytest.mark.parametrize("compress", [None, True])
def test_pillow_reads_every_page(extension, dtype, compress):
    pillow = pytest.importorskip("PIL.Image")
    what = image("tzyx", dtype)
    with pillow.open(written(what, f"image{extension}", compress=compress)) as file:
        assert file.n_frames == 6
        for number, page in enumerate(what.values.reshape(6, 5, 6)):
            file.seek(number)
            np.testing.assert_array_equal(np.asarray(file), page)


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("compress", [None, True])
def test_pillow_reads_colours(extension, compress):
    pillow = pytest.importorskip("PIL.Image")
    for colours in ("rgb", "rgba"):
        what = image("cyx", "u1", c=list(colours))
        with pillow.open(written(what, f"image{extension}", compress=compress)) as file:
            assert file.mode == colours.upper()
            np.testing.assert_array_equal(np.asarray(file), what.transpose(*"yxc"))


@pytest.mark.peers
def test_rosettasciio_finds_the_sizes():
    """Of ImageJ's units it knows only ``micron``."""
    reader = pytest.importorskip("rsciio.tiff")
    coords = {"x": even("x", 0.25, "nm"), "y": even("y", 0.5, "nm"), "z": even("z", 2.0, "nm")}
    (theirs,) = reader.file_reader(written(image("zyx", **coords)))
    np.testing.assert_array_equal(theirs["data"], image("zyx"))
    assert sorted(axis["scale"] for axis in theirs["axes"]) == [0.25, 0.5, 2.0]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_uncompressed_pixels_are_plain_frames_in_native_order(extension):
    name = written(image("zyx").astype(">u2"), f"image{extension}")
    assert TifSource(name).image.pixels.layout()["kind"] == "frames at a constant stride"
    assert imload(name, chunks={"z": 1}).image.dtype.isnative


# Everything comes back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [None, True])
@pytest.mark.parametrize(
    "dims",
    ["yx", "xy", "zyx", "xyz", "tzcyx", "cyxzt", "yxvu", "vuyx", "uvyx", "yxuv", "ytvxu", "x", "y", "c", "u", "tx",
     "yxc", "cz", "uc", "yu", "iyx", "isyx"],
)  # fmt: skip
def test_axes_come_back_in_their_order(dims, compress):
    for extension in EXTENSIONS if set(dims) <= set("tzcyx") else (".tif",):
        name = written(image(dims), f"image{extension}", compress=compress)
        xr.testing.assert_equal(imload(name).image, image(dims))


@pytest.mark.parametrize("lengths", list(itertools.product((1, 2), repeat=3)))
@pytest.mark.parametrize("dims", ["zyx", "cxy", "ivu"])
def test_axes_of_length_one_come_back(dims, lengths):
    what = xr.DataArray(np.arange(np.prod(lengths), dtype="u2").reshape(lengths), dims=tuple(dims))
    for extension in EXTENSIONS if dims != "ivu" else (".tif",):
        name = written(what, f"image{extension}")
        xr.testing.assert_equal(imload(name).image, what)
        xr.testing.assert_equal(imload(written(what, f"image{extension}", compress=True)).image, what)


@pytest.mark.parametrize(
    "dtype", ["?", "u1", "i1", "u2", ">i2", "u4", "i4", "u8", "i8", "f2", "f4", ">f8", "c8", "c16"]
)
@pytest.mark.parametrize("compress", [None, True])
def test_every_pixel_type_comes_back(dtype, compress):
    what = image("czyx", dtype)
    back = come_back(what, compress=compress)
    xr.testing.assert_equal(back, what)
    assert back.dtype == what.dtype.newbyteorder("=")


def test_numbers_that_are_none_come_back():
    what = image("yx", "f4").where(lambda pixels: pixels > 3)
    what[1, 1] = -np.inf
    for extension in EXTENSIONS:
        xr.testing.assert_equal(come_back(what, f"image{extension}", compress=True), what)


COORDINATES = {
    "even": np.arange(3) * 0.1 + 0.7,
    "descending": 5.0 - np.arange(3),
    "fine": np.arange(3) * 1e-300,
    "uneven": np.array([0.1, 0.2, 0.7]),
    "not finite": np.array([0.1, np.nan, np.inf]),
    "single": np.array([0.1, 0.2, 0.3], "f4"),
    "whole": np.array([5, 3, 4]),
    "small whole": np.array([0, 1, 2], "u1"),
    "text": np.array(["HAADF", "B\n<F>", "µ 金"]),
    "dates": np.array(["2024-01-31", "2024-02-01", "2024-02-29T12:00:00.000000001"], "M8[ns]"),
    "durations": np.array([1, 5, 7], "m8[ms]"),
    "truth": np.array([True, False, True]),
}


@pytest.mark.parametrize("kind", COORDINATES)
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_coordinates_come_back_exactly(kind, extension):
    what = image("zyx").assign_coords(z=("z", COORDINATES[kind], {"units": "µm"} if kind == "even" else {}))
    back = come_back(what, f"image{extension}")
    np.testing.assert_array_equal(back.z, what.z)
    assert back.z.dtype == what.z.dtype
    assert back.z.attrs == what.z.attrs


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_facts_and_attributes_come_back(extension):
    what = image("tyx", attrs={"specimen": "gold", "tilts": [1, 2.5, None]}, x=even("x", 0.3, "1/nm", 7.0))
    what = what.assign_coords(
        temperature=("t", [20.0, 21.5], {"units": "K", "probe": "left"}), drift=(("t", "y"), np.ones((2, 5))), z=3.5
    )
    facts = {"beam_energy": 200.0, "stage": {"x": 1e-3}, "title": "µ <gold>", "start_time": "2024-02-03T04:05:06.25"}
    ds = what.to_dataset().assign_attrs(acquisition=facts, project="nanoparticles")
    (path,) = imsave(ds, f"image{extension}")
    back = imload(path)
    xr.testing.assert_identical(back.image.compute(), what)
    assert back.attrs["acquisition"] == facts
    assert back.attrs["project"] == "nanoparticles"


def test_the_header_of_the_first_file_comes_back():
    ds = image("yx").to_dataset().assign_attrs(metadata={"fileheader": {"ID": "IMGBLO", "NX": 3}})
    (path,) = imsave(ds, "image.tif")
    assert imload(path).attrs["metadata"]["fileheader"] == {"ID": "IMGBLO", "NX": 3}


def test_another_order_of_axes_is_given_if_asked_for():
    name = written(image("cyxt"))
    assert imload(name).image.dims == tuple("cyxt")
    assert imload(name, output_axis_order="itczyx").image.dims == tuple("tcyx")
    assert imload(name, metadata={"axes": "abde"}).image.dims == tuple("abde")


def test_pages_can_be_arranged_anew():
    scan = image("yxvu", v=even("v", 2.0, "mrad"), u=even("u", 0.5, "mrad"))
    again = imload(written(scan), nav_shape=(6, 5)).image
    assert again.dims == tuple("yxvu")
    np.testing.assert_array_equal(again, scan.values.reshape(6, 5, 7, 8))
    assert (float(again.u[1]), again.u.units) == (0.5, "mrad")


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_parts_are_read_lazily(extension):
    for compress in (None, True):
        name = written(image("zcyx"), f"image{extension}", compress=compress)
        part = (slice(1, 3), 2, slice(1, 5, 2), slice(3))
        xr.testing.assert_equal(imload(name).image[part], image("zcyx")[part])
        xr.testing.assert_equal(imload(name, partition={"z": 1}).image, image("zcyx")[1])


# Files that are not what was saved any more --------------------------------------------------------------------------


def retold(pixels, account, **how):
    """Write a file with ImageJ's `Info` of another one."""
    tifffile.imwrite("other.tif", pixels, imagej=True, metadata={"Info": account, **how})
    return imload("other.tif").image


def info(name):
    with tifffile.TiffFile(name) as tiff:
        return tiff.imagej_metadata["Info"]


def test_what_was_cropped_since_is_read_as_it_is():
    account = info(written(image("tzyx", x=even("x", 0.25, "nm"))))
    pixels = np.ones((2, 3, 5, 6), "u2")
    assert retold(pixels, account, axes="TZYX").x.units == "nm"
    for changed, axes in ((pixels[:1], "TZYX"), (pixels[..., 1:], "TZYX"), (pixels.reshape(3, 2, 5, 6), "TZYX")):
        assert not retold(changed, account, axes=axes).coords
    assert not retold(pixels.transpose(0, 1, 3, 2), account, axes="TZYX").coords
    assert not retold(pixels[0], account, axes="TYX").coords


@pytest.mark.parametrize(
    "change",
    [{"stored": 5}, {"stored": "y"}, {"stored": "yy"}, {"stored": "abcyz"}, {"version": 99}, {"axes": "yxx"},
     {"shape": [5, 7]}, {"shape": "large"}, {"coords": {"x": {"dims": "x", "dtype": "O"}}}],
)  # fmt: skip
def test_an_account_that_makes_no_sense_is_ignored(change):
    account = json.loads(info(written(image("yx", x=even("x", 0.25, "nm")))))
    account["emio"] |= change
    back = retold(image("yx").values, json.dumps(account))
    np.testing.assert_array_equal(back, image("yx"))
    assert not back.coords


@pytest.mark.parametrize("account", ["", "{", "5", "[" * 100_000, '{"emio": 3}', '{"oime": {}}'])
def test_other_notes_are_left_alone(account):
    np.testing.assert_array_equal(retold(image("yx").values, account), image("yx"))


# Lazy pixels ---------------------------------------------------------------------------------------------------------


def counted(what, chunks):
    """The same image as a dask array, and the list of chunks that were computed."""
    computed = []

    def block(pixels, block_info=None):
        computed.append(tuple(block_info[0]["chunk-location"]))
        return pixels

    lazy = da.from_array(what.values, chunks=chunks)
    return what.copy(data=lazy.map_blocks(block, meta=what.values[:0])), computed, lazy.npartitions


CHUNKS = [(1, 1, -1, -1), (2, 2, 5, 6), (-1, -1, 2, 3), (1, 3, 3, -1), (-1, 1, 1, 1)]


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize(
    ("extension", "compress"), [(".tif", None), (".tif", True), (".ome.tif", None), (".ome.tif", True)]
)
@pytest.mark.parametrize("memory", [None, 50, 400])
def test_each_chunk_is_computed_once(monkeypatch, chunks, extension, compress, memory):
    """However few bytes may be in memory: a page has 60, and what lies across pages goes through a file then."""
    if memory is not None:
        for name in ("BAND_BYTES", "LARGEST_BAND_BYTES", "WINDOW_BYTES"):
            monkeypatch.setattr(_tif_pixels, name, memory)
    what = image("tzyx")
    lazy, computed, total = counted(what, chunks)
    (path,) = imsave(lazy, f"image{extension}", compress=compress)
    assert len(set(computed)) == len(computed) == total
    assert os.listdir() == [f"image{extension}"]
    np.testing.assert_array_equal(tifffile.imread(path), what)


@pytest.mark.parametrize("dtype", ["?", "u1"])
def test_lazy_pixels_of_any_type_are_written(dtype):
    what = image("zcyx", dtype, c=list("rgb"))
    lazy = what.chunk({"z": 2, "c": 1, "y": 2})
    for compress in (None, True):
        xr.testing.assert_equal(come_back(lazy, compress=compress), what)


def test_other_processes_write_to_the_same_file():
    lazy = image("yxvu").chunk({"y": 2, "v": 3})
    with dask.config.set(scheduler="processes", num_workers=2):
        (path,) = imsave(lazy, "scan.tif")
    np.testing.assert_array_equal(tifffile.imread(path), image("yxvu").values.reshape(30, 7, 8))


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("compress", [None, True])
@pytest.mark.parametrize("memory", [None, 50])
def test_a_failure_leaves_nothing_behind(monkeypatch, extension, compress, memory):
    if memory is not None:
        monkeypatch.setattr(_tif_pixels, "LARGEST_BAND_BYTES", memory)

    def fail(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 1:
            raise RuntimeError("detector on fire")
        return block

    lazy = da.from_array(image("zyx").values, chunks=(2, 3, 3)).map_blocks(fail, meta=np.empty((0, 0, 0), "u2"))
    with pytest.raises(RuntimeError, match="detector on fire"):
        imsave(lazy, f"image{extension}", compress=compress)
    assert not os.listdir()


def test_a_file_can_be_saved_over_itself():
    written(image("zyx"))
    for compress in (True, None):
        imsave(imload("image.tif"), "image.tif", overwrite=True, compress=compress)
        xr.testing.assert_equal(imload("image.tif").image, image("zyx"))


# Sets of files, and refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "plain", "ome"),
    [("yx", "yx", "yx"), ("iyx", "yx", "yx"), ("itzcyx", "tzcyx", "tzcyx"), ("xy", "xy", "xy"), ("yxvu", "yxvu", "yx"),
     ("iyxvu", "yxvu", "yx"), ("yxu", "yx", "yx"), ("vu", "vu", "vu"), ("iu", "iu", "iu")],
)  # fmt: skip
def test_axes_of_one_file_are_those_that_others_know(axes, plain, ome):
    assert (file_axes(axes), ome_file_axes(axes)) == (plain, ome)


@pytest.mark.parametrize("extension", [".tif", ".TIFF", ".ome.tif", ".ome.tiff"])
@pytest.mark.parametrize("compress", [None, True])
def test_images_become_several_files_and_one_image_again(extension, compress):
    coords = {"i": [3, 10, 5], "c": ["a/b", "03"], "x": even("x", 0.25, "nm")}
    what = image("iczyx", **coords, attrs={"specimen": "gold"})
    names = imsave(what, f"scan{extension}", partition="zyx", compress=compress)
    assert os.path.basename(names[0]) == f"scan.i_03.c_a%2Fb{extension}"
    xr.testing.assert_identical(imload(f"scan.*{extension}").image.compute(), what)


def test_patterns_of_a_scan_are_files_whose_pages_are_patterns():
    scan = image("yxvu", y=even("y", 2.5, "nm"), v=even("v", 1.0, "mrad"))
    names = imsave(scan, "scan.tif", partition="vu")
    assert len(names) == 30
    assert tifffile.imread(names[7]).tolist() == scan[1, 1].values.tolist()
    xr.testing.assert_identical(imload("scan.*.tif").image.compute(), scan)


def test_extensions_choose_the_longer_one():
    imsave(image("yx"), "image.OME.TIFF")
    assert series("image.OME.TIFF")[0] == "ome"
    imsave(image("yx"), "image.tiff")
    assert series("image.tiff")[0] == "imagej"


@pytest.mark.parametrize(
    ("what", "name", "says"),
    [
        (image("yx", "u8"), "a.ome.tif", r"holds uint64, .* save as \.tif or \.zarr"),
        (image("yx", "f2"), "a.ome.tif", "holds float16"),
        (image("yxvu"), "a.ome.tif", r"OME-TIFF has the axes 'tzcyx', and not 'v'.*\.tif or \.zarr"),
        (image("iyx"), "a.ome.tif", "not 'i'"),
        (image("yx", "U3"), "a.tif", "holds <U3"),
        (image("yx", "M8[ns]"), "a.tif", "holds datetime64"),
        (image("yx", np.longdouble), "a.tif", "holds float128|holds longdouble"),
        (image("yx")[:0], "a.tif", r"shape \(0, 6\) has no pixels"),
        (image("zyx")[:, :, :0], "a.ome.tif", r"shape \(3, 5, 0\) has no pixels"),
        (image("yx")[0, 0], "a.tif", r"shape \(\) has no pixels"),
    ],
)  # fmt: skip
def test_what_the_format_cannot_hold_is_refused(what, name, says):
    with pytest.raises(ArgumentError, match=says):
        written(what, name)
    assert not os.path.exists(name)
