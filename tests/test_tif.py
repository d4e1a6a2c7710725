"""Reading TIFF files."""

import gzip
import hashlib
import json
import pickle
import shutil
import warnings
from types import SimpleNamespace

import dask
import fsspec
import numpy as np
import pytest
import tifffile

from intake_emio import detect, imload
from intake_emio.axes import Scale
from intake_emio.errors import (
    ArgumentError,
    EmioError,
    EmioWarning,
    HeaderError,
    MissingFileError,
    StorageError,
    TruncatedError,
)
from intake_emio.formats._tif_vendors import Page, jeol, olympus, tvips
from intake_emio.formats.tif import TifSource, name_axes
from intake_emio.frames.pages import Pages

from .encoders.tif import ASCII, DOUBLE, LONG, RATIONAL, SHORT, encode_tif

RAMP = np.arange(12 * 20, dtype="u2").reshape(12, 20)
HARMFUL = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><OME>&b;</OME>'


def ramps(*shape, dtype="u2"):
    return (np.arange(np.prod(shape)) % 251).astype(dtype).reshape(shape)


@pytest.fixture
def written(tmp_path):
    """Write an image with tifffile, and return its path."""

    def write(pixels, name="image.tif", **how):
        how.setdefault("photometric", "minisblack")
        tifffile.imwrite(tmp_path / name, pixels, **how)
        return tmp_path / name

    return write


@pytest.fixture
def encoded(tmp_path):
    """Write an image with our own encoder, and return its path."""

    def write(pages, *args, name="image.tif", **how):
        path = tmp_path / name
        path.write_bytes(encode_tif(pages, *args, **how))
        return path

    return write


def axes(ds):
    return "".join(ds.image.dims)


def spacing(ds):
    metadata = ds.attrs["metadata"]
    return {a: (step, metadata["spacing_units"].get(a)) for a, step in metadata["spacing"].items()}


def layout(path, **how):
    return TifSource(path, **how).image.pixels.layout()["kind"]


# Real files ----------------------------------------------------------------------------------------------------------


def test_real_files_are_read_as_tifffile_reads_them(real_files, tmp_path):
    files = real_files("tif")
    for name, expected in files.expected.items():
        if name.startswith("_"):
            continue
        path = files.path(name)
        if "file" in expected:
            path = tmp_path / name
            with gzip.open(files.path(name + ".gz")) as packed, path.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
        ds = imload(path)
        metadata = ds.attrs["metadata"]
        assert axes(ds) == expected["axes"], name
        assert list(ds.image.shape) == expected["shape"], name
        assert str(ds.image.dtype) == expected["dtype"], name
        assert metadata["spacing_units"] == expected["units"], name
        assert metadata["spacing"].keys() == expected["spacing"].keys(), name
        for axis, step in expected["spacing"].items():
            assert metadata["spacing"][axis] == pytest.approx(step, rel=1e-9), name
        for axis, origin in expected["origin"].items():
            assert ds.image[axis][0] == origin, name
        for axis, ends in expected.get("coords_first_last", {}).items():
            assert [ds.image[axis][0], ds.image[axis][-1]] == ends, name
        pixels = ds.image.values
        stored = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
        assert hashlib.sha256(stored).hexdigest() == expected["sha256"], name
        json.dumps(ds.attrs)


def test_real_files_packed_by_gzip_are_read_as_they_are(real_files):
    files = real_files("tif")
    ds = imload(files.path("FEI-Helios-navcam.tif.gz"))
    assert ds.attrs["format"] == "tif"
    assert hashlib.sha256(ds.image.values.tobytes()).hexdigest() == files.expected["FEI-Helios-navcam.tif"]["sha256"]
    assert spacing(ds)["y"] == (pytest.approx(0.135155 / 512), "m")
    assert ds.image.attrs["databar_rows"] == 39


def test_circumstances_of_real_files_have_neutral_names(real_files, tmp_path):
    files = real_files("tif")
    facts = {
        name: imload(files.path(name + ".tif.gz")).attrs["acquisition"]
        for name in ("FEI-Helios-Ebeam-8bits", "test_tiff_Zeiss_SEM_512pix", "TVIPS_bin4", "JEOL-SightX-SAED-dummy")
    }
    helios = facts["FEI-Helios-Ebeam-8bits"]
    assert (helios["beam_energy"], helios["dwell_time"], helios["detector"]) == (5, 1e-5, "ETD")
    assert helios["start_time"] == "2016-06-13T17:06:40"
    zeiss = facts["test_tiff_Zeiss_SEM_512pix"]
    assert (zeiss["beam_energy"], zeiss["magnification"]) == (5, 50000)
    assert zeiss["working_distance"] == pytest.approx(0.0039)
    assert zeiss["start_time"] == "2018-09-25T08:20:42"
    tvips = facts["TVIPS_bin4"]
    assert (tvips["beam_energy"], tvips["exposure_time"], tvips["detector"]) == (99, 0.4, "F416")
    assert tvips["start_time"] == "2017-04-12T09:01:17"
    jeol = facts["JEOL-SightX-SAED-dummy"]
    assert (jeol["beam_energy"], jeol["camera_length"]) == (200, 400)


@pytest.mark.peers
def test_pixel_sizes_agree_with_rosettasciio_where_it_is_right(real_files):
    reader = pytest.importorskip("rsciio.tiff")
    files = real_files("tif")
    ours = {"height": "y", "width": "x"}
    for name in ("test_loading_image_saved_with_imageJ.tif", "test_loading_image_saved_with_DM.tif"):
        theirs = {ours[axis["name"]]: axis for axis in reader.file_reader(files.path(name))[0]["axes"]}
        for axis, (step, units) in spacing(imload(files.path(name))).items():
            assert step == pytest.approx(theirs[axis]["scale"], rel=1e-6)
            assert units == theirs[axis]["units"]


# Pixels --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_plain_pages_are_frames_in_either_byte_order(encoded, order, big, dtype):
    pages = [ramps(6, 5, dtype=dtype) + k for k in range(3)]
    path = encoded(pages, order=order, big=big, strips=2)
    ds = imload(path)
    assert axes(ds) == "iyx"
    np.testing.assert_array_equal(ds.image, pages)
    assert ds.image.dtype == np.dtype(dtype)
    assert layout(path) == "frames at a constant stride"
    np.testing.assert_array_equal(tifffile.imread(path), pages)


def test_a_file_worked_by_hand_is_read(tmp_path):
    """Header; pixels 1 2 3 4 5 6 at byte 8; the directory at byte 14 with six entries."""
    entries = ["0001 0300 01000000 03000000", "0101 0300 01000000 02000000", "0201 0300 01000000 08000000",
               "0601 0300 01000000 01000000", "1101 0400 01000000 08000000", "1701 0400 01000000 06000000"]  # fmt: skip
    content = "4949 2a00 0e000000 010203040506 0600" + "".join(entries) + "00000000"
    (tmp_path / "hand.tif").write_bytes(bytes.fromhex(content.replace(" ", "")))
    ds = imload(tmp_path / "hand.tif")
    assert ds.image.values.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert not ds.coords


def test_imagej_stacks_beyond_the_reach_of_their_directory_are_read(tmp_path):
    """20 frames of 256 MiB behind the first strip: the file is sparse, and takes no room on the disk."""
    side, count = 16384, 20
    said = f"ImageJ=1.54\nimages={count}\nslices={count}\n"
    content = bytearray(encode_tif([np.zeros((2, 2), "u1")], {
        256: (LONG, [side]), 257: (LONG, [side]), 278: (LONG, [side]), 279: (LONG, [side**2]),
        273: (LONG, [4096]), 270: (ASCII, said),
    }))  # fmt: skip
    path = tmp_path / "large.tif"
    with path.open("wb") as file:
        file.write(content)
        file.truncate(4096 + count * side**2)
        file.seek(4096 + 19 * side**2 + 5 * side + 7)
        file.write(b"\x2a")
    ds = imload(path)
    assert dict(ds.image.sizes) == {"z": count, "y": side, "x": side}
    assert ds.image[19, 4:7, 6:9].values.tolist() == [[0, 0, 0], [0, 42, 0], [0, 0, 0]]


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_imagej_counts_that_do_not_agree_make_a_plain_stack(tmp_path, compression):
    pixels = ramps(6, 8, 10)
    with tifffile.TiffWriter(tmp_path / "image.tif") as tiff:
        for number, page in enumerate(pixels):
            said = "ImageJ=1.54\nimages=6\nframes=2\nslices=2\n" if number == 0 else None
            tiff.write(page, description=said, metadata=None, compression=compression, photometric="minisblack")
    with pytest.warns(EmioWarning, match="frames x slices x channels are 4, but there are 6 images"):
        ds = imload(tmp_path / "image.tif")
    assert axes(ds) == "iyx"
    np.testing.assert_array_equal(ds.image, pixels)


def test_tiles_of_which_nothing_is_stored_are_empty(written):
    pixels = np.zeros((64, 64), "u2")
    pixels[20:30, 40:50] = 7
    path = written(pixels, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        counts = tiff.pages[0].tags[325]
        empty = counts.valueoffset, tiff.pages[0].databytecounts
    content = bytearray(path.read_bytes())
    size = counts.valuebytecount // len(empty[1])
    content[empty[0] : empty[0] + size] = bytes(size)
    path.write_bytes(content)
    np.testing.assert_array_equal(imload(path).image, pixels)


def test_jpeg_tiles_are_read_as_tifffile_reads_them(written):
    path = written(ramps(40, 50, dtype="u1"), tile=(32, 32), compression="jpeg")
    np.testing.assert_array_equal(imload(path).image[5:37, 20:].values, tifffile.imread(path)[5:37, 20:])


def test_volumes_of_one_directory_are_read(written):
    pixels = ramps(5, 40, 48)
    path = written(pixels, volumetric=True, tile=(2, 16, 16), compression="zlib")
    ds = imload(path)
    assert axes(ds) == "zyx"
    np.testing.assert_array_equal(ds.image[1:4, 10:20, 7].values, pixels[1:4, 10:20, 7])


def test_pages_at_uneven_distances_are_found(encoded):
    pages = [RAMP + k for k in range(4)]
    path = encoded(pages, gaps=(10, 400, 2, 90))
    np.testing.assert_array_equal(imload(path).image, pages)
    np.testing.assert_array_equal(imload(path).image[2:3, 3:5, ::4].values, np.array(pages)[2:3, 3:5, ::4])


def test_imagej_stacks_of_one_directory_are_frames(written):
    pixels = ramps(2, 3, 4, 6, 5)
    path = written(pixels, imagej=True, metadata={"axes": "TZCYX"})
    ds = imload(path)
    assert axes(ds) == "tczyx"  # as itczyx says
    np.testing.assert_array_equal(ds.image.transpose(*"tzcyx"), pixels)
    assert layout(path) == "frames at a constant stride"
    assert axes(imload(path, output_axis_order=None)) == "tzcyx"
    assert axes(imload(path, metadata={"axes": "abcyx"}, output_axis_order=None)) == "abcyx"


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw", "rowsperstrip": 7},
        {"compression": "zstd", "tile": (16, 16)},
        {"tile": (16, 16)},
        {"compression": "packbits"},
    ],
)
def test_compressed_and_tiled_pages_are_read_part_by_part(written, how):
    pixels = ramps(3, 37, 45)
    path = written(pixels, **how)
    ds = imload(path)
    np.testing.assert_array_equal(ds.image, pixels)
    parts = (slice(1, 3), slice(5, 30, 3), slice(10, 40, 7))
    np.testing.assert_array_equal(ds.image[parts].values, pixels[parts])
    np.testing.assert_array_equal(ds.image[2, 20, 17:19].values, pixels[2, 20, 17:19])
    np.testing.assert_array_equal(imload(path, chunks=None).image, pixels)
    assert layout(path) == "pages of strips or tiles"


def test_only_tiles_that_are_touched_are_read(written):
    pixels = ramps(64, 64)
    path = written(pixels, compression="zlib", tile=(16, 16))
    with tifffile.TiffFile(path) as tiff:
        broken = tiff.pages[0].dataoffsets[5]
    content = bytearray(path.read_bytes())
    content[broken : broken + 4] = b"\xff" * 4
    path.write_bytes(content)
    image = imload(path).image
    np.testing.assert_array_equal(image[32:, 32:], pixels[32:, 32:])
    with pytest.raises(StorageError, match=r"image\.tif: a page cannot be decoded"):
        image.compute()


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_are_channels(written, compression, planar):
    pixels = ramps(4, 12, 10, 3, dtype="u1")
    stored = pixels if planar == "contig" else pixels.transpose(0, 3, 1, 2)
    path = written(stored, photometric="rgb", planarconfig=planar, compression=compression)
    ds = imload(path)
    assert axes(ds) == "icyx"
    assert ds.image.c.values.tolist() == ["r", "g", "b"]
    np.testing.assert_array_equal(ds.image.transpose(*"iyxc"), pixels)
    np.testing.assert_array_equal(ds.image[2, 1, 3:9:2, 4:], pixels[2, 3:9:2, 4:, 1])


@pytest.mark.parametrize("dtype", ["?", "i1", "u4", "i8", "u8", "f2", "c8", "c16"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_other_types_keep_theirs(written, dtype, compression):
    pixels = ramps(3, 8, 16, dtype="u1").astype(dtype)
    ds = imload(written(pixels, compression=compression))
    assert ds.image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(ds.image, pixels)


def test_packed_bits_become_the_next_wider_type(written):
    pixels = ramps(9, 11) * 16
    path = written(pixels, bitspersample=12)
    ds = imload(path)
    assert ds.image.dtype == np.uint16
    np.testing.assert_array_equal(ds.image, tifffile.imread(path))


def test_a_palette_leaves_indices_and_white_is_not_turned(encoded, written):
    colours = ramps(3, 256)
    palette = imload(written(ramps(6, 5, dtype="u1"), photometric="palette", colormap=colours))
    np.testing.assert_array_equal(palette.image, ramps(6, 5))
    assert palette.attrs["metadata"]["fileheader"]["colormap"] == colours.tolist()
    white = imload(encoded([RAMP], {262: (SHORT, [0])}, name="white.tif"))
    np.testing.assert_array_equal(white.image, RAMP)
    assert white.attrs["metadata"]["fileheader"]["photometric"] == "MINISWHITE"


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}])
def test_nav_shape_makes_a_scan_of_a_stack(encoded, written, how):
    pixels = ramps(6, 8, 10)
    path = written(pixels, **how)
    scan = imload(path, nav_shape=(2, 3))
    assert axes(scan) == "yxvu"
    np.testing.assert_array_equal(scan.image.values.reshape(6, 8, 10), pixels)
    shifted = imload(path, nav_shape=(2, 3), sync_offset=-1).image.values.reshape(6, 8, 10)
    np.testing.assert_array_equal(shifted[1:], pixels[:5])
    assert not shifted[0].any()
    with pytest.warns(EmioWarning, match="2 of 8 frames are missing"):
        more = imload(path, nav_shape=(2, 4))
    assert more.image.values.reshape(8, 80).any(axis=1).tolist() == [True] * 6 + [False] * 2
    with pytest.raises(ArgumentError, match=r"sig_shape=\(10, 8\), but the frames are \(8, 10\)"):
        imload(path, sig_shape=(10, 8))


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"compression": "zlib", "tile": (16, 16)}])
def test_pixels_travel_and_are_computed_in_threads(written, how):
    pixels = ramps(20, 32, 48)
    path = written(pixels, **how)
    image = imload(path, chunks={"i": 3}).image
    assert len(pickle.dumps(image.data)) < 20_000
    with dask.config.set(scheduler="threads"):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(image)).sum("i"), pixels.sum(0))
    source = pickle.loads(pickle.dumps(TifSource(path)))
    np.testing.assert_array_equal(source.read().image, pixels)


def test_chunks_of_large_pages_are_rows_of_tiles(written):
    path = written(np.zeros((4096, 4096), "u2"), compression="zlib", tile=(256, 256))
    pixels = TifSource(path).image.pixels
    assert isinstance(pixels, Pages)
    assert pixels.chunks()[0] % 256 == 0
    assert pixels.chunks()[0] < 4096


def test_remote_files_are_read(written):
    pixels = ramps(3, 20, 30)
    for name, how in (("plain.tif", {}), ("packed.tif", {"compression": "zlib"})):
        path = written(pixels, name, **how)
        fsspec.filesystem("memory").pipe(f"/tif/{name}", path.read_bytes())
        np.testing.assert_array_equal(imload(f"memory://tif/{name}").image[1:, 3:7], pixels[1:, 3:7])
    fsspec.filesystem("memory").pipe("/tif/plain.tif.gz", gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(imload("memory://tif/plain.tif.gz").image, pixels)


# Axes and series -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "ours"),
    [("YX", "yx"), ("ZYX", "zyx"), ("IYX", "iyx"), ("QYX", "iyx"), ("QQYX", "yxvu"), ("QQQYX", "iyxvu"), ("YXS", "yxc"),
     ("CYXS", "cyxs"), ("EYX", "cyx"), ("ECYX", "ecyx"), ("HYX", "iyx"), ("HPYX", "hpyx"), ("VRYX", "wryx"),
     ("YXVU", "yxvu"), ("IYXVU", "iyxvu"), ("TZCYX", "tzcyx")],
)  # fmt: skip
def test_axes_have_our_names(stored, ours):
    assert name_axes(stored) == ours


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}])
def test_axes_of_length_one_are_dropped_but_not_rows_and_columns(written, how):
    pixels = ramps(1, 3, 1, 6, 5)
    assert axes(imload(written(pixels, metadata={"axes": "TZCYX"}, **how))) == "zyx"
    line = imload(written(ramps(3, 1, 5), **how))
    assert line.image.shape == (3, 1, 5)
    column = imload(written(ramps(3, 5, 1), **how))
    np.testing.assert_array_equal(column.image, ramps(3, 5))


def test_unknown_axes_are_a_scan_or_must_be_named(written):
    pixels = ramps(2, 3, 4, 5)
    assert axes(imload(written(pixels))) == "yxvu"
    assert axes(imload(written(pixels, metadata={"axes": "YXVU"}))) == "yxvu"
    five = written(ramps(2, 2, 2, 2, 4, 5))
    with pytest.raises(ArgumentError, match="4 of the axes QQQQYX are of unknown meaning"):
        imload(five)
    assert axes(imload(five, metadata={"axes": "tzcayx"}, output_axis_order=None)) == "tzcayx"


def test_the_largest_series_is_chosen_and_others_can_be(tmp_path):
    path = tmp_path / "several.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(ramps(4, 6), photometric="minisblack", metadata={"name": "small"})
        tiff.write(ramps(8, 9, dtype="u1"), photometric="minisblack", metadata=None)
        tiff.write(ramps(8, 9), photometric="minisblack", metadata=None)
    ds = imload(path)
    assert ds.image.dtype == np.uint16  # of two as large, the one with more bits
    assert ds.image.shape == (8, 9)
    listed = ds.attrs["metadata"]["datasets"]
    assert [(one["index"], one["shape"], one["dtype"]) for one in listed] == [
        (0, [4, 6], "uint16"), (1, [8, 9], "uint8"), (2, [8, 9], "uint16")
    ]  # fmt: skip
    assert imload(path, series="0").image.shape == (4, 6)
    with pytest.raises(ArgumentError, match=r"there is no series 7: the file has 3 series \(0: YX \(4, 6\) uint16"):
        imload(path, series=7)


def test_levels_of_a_pyramid_have_larger_pixels(tmp_path):
    path = tmp_path / "pyramid.ome.tif"
    pixels = ramps(64, 48)
    with tifffile.TiffWriter(path) as tiff:
        said = {"PhysicalSizeX": 2, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 3, "PhysicalSizeYUnit": "nm"}
        tiff.write(pixels, subifds=1, tile=(16, 16), photometric="minisblack", metadata=said)
        tiff.write(pixels[::4, ::2], subfiletype=1, tile=(16, 16), photometric="minisblack")
    assert spacing(imload(path)) == {"x": (2, "nm"), "y": (3, "nm")}
    small = imload(path, level=1)
    np.testing.assert_array_equal(small.image, pixels[::4, ::2])
    assert spacing(small) == {"x": (4, "nm"), "y": (12, "nm")}
    with pytest.raises(ArgumentError, match="has no level 2, only 0 to 1"):
        imload(path, level=2)


# Calibration ---------------------------------------------------------------------------------------------------------


def imagej(written, description, pixels=RAMP, resolution=(4, 2)):
    path = written(pixels, description="ImageJ=1.54\n" + description, metadata=None, resolution=resolution)
    return imload(path)


@pytest.mark.parametrize(
    ("unit", "ours"),
    [("micron", "µm"), ("um", "µm"), ("\\u00B5m", "µm"), ("\\u00C5", "Å"), ("A", "Å"), ("nm", "nm"), ("1/nm", "1/nm")],
)
def test_imagej_names_units_in_its_own_way(written, unit, ours):
    assert spacing(imagej(written, f"unit={unit}\n")) == {"x": (0.25, ours), "y": (0.5, ours)}


@pytest.mark.parametrize("unit", ["unit=pixel\n", "unit=\n", "unit=px\n", ""])
def test_imagej_images_without_a_unit_are_not_calibrated(written, unit):
    assert not imagej(written, unit, resolution=(100000, 100000)).coords


def test_imagej_volumes_have_steps_units_and_origins(written):
    said = {"axes": "TZYX", "unit": "nm", "spacing": 5.0, "finterval": 0.5, "xorigin": 3.0, "zorigin": 2.0}
    path = written(ramps(2, 3, 4, 5), imagej=True, resolution=(4, 2), metadata=said)
    ds = imload(path)
    assert spacing(ds) == {"t": (0.5, "s"), "z": (5, "nm"), "y": (0.5, "nm"), "x": (0.25, "nm")}
    assert ds.image.x.values.tolist() == [-0.75, -0.5, -0.25, 0, 0.25]
    assert ds.image.z.values.tolist() == [-10, -5, 0]


def test_imagej_labels_name_channels(written):
    said = {"axes": "CYX", "Labels": ["HAADF", "BF"]}
    ds = imload(written(ramps(2, 4, 5), imagej=True, metadata=said))
    assert ds.image.c.values.tolist() == ["HAADF", "BF"]
    assert ds.attrs["metadata"]["fileheader"]["labels"] == ["HAADF", "BF"]


def test_ome_sizes_units_channels_and_times_are_read(written):
    said = {
        "axes": "TCYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "Å", "PhysicalSizeY": 2, "TimeIncrement": 20,
        "TimeIncrementUnit": "ms", "Channel": {"Name": ["HAADF", "BF"]}, "Name": "gold",
    }  # fmt: skip
    ds = imload(written(ramps(3, 2, 4, 5), "image.ome.tif", metadata=said))
    assert spacing(ds) == {"x": (0.5, "Å"), "y": (2, "µm"), "t": (20, "ms")}
    assert ds.image.c.values.tolist() == ["HAADF", "BF"]
    assert ds.attrs["acquisition"]["title"] == "gold"


def test_ome_times_of_planes_are_an_uneven_axis(written):
    said = {"axes": "TYX", "Plane": {"DeltaT": [0.0, 1.5, 4.0], "DeltaTUnit": ["s"] * 3}}
    ds = imload(written(ramps(3, 4, 5), "image.ome.tif", metadata=said))
    assert ds.image.t.values.tolist() == [0, 1.5, 4]
    assert ds.image.t.units == "s"


@pytest.mark.parametrize("unit", ["pixel", "reference frame"])
def test_ome_units_that_are_none_are_no_calibration(written, unit):
    said = {"PhysicalSizeX": 2, "PhysicalSizeXUnit": unit}
    assert not imload(written(RAMP, "image.ome.tif", metadata=said)).coords


@pytest.mark.parametrize(
    ("x", "unit", "step"),
    [((72, 1), 2, None), ((300, 1), 2, None), ((10**7, 1), 3, 1e-3), ((254000, 1), 2, 0.1), ((10**7, 1), 1, None),
     ((0, 1), 3, None), ((1, 0), 3, None), ((9999, 1), 3, None)],
)  # fmt: skip
def test_resolution_tags_are_believed_only_if_no_printer_is_so_fine(encoded, x, unit, step):
    path = encoded([RAMP], {282: (RATIONAL, [x]), 283: (RATIONAL, [x]), 296: (SHORT, [unit])})
    found = spacing(imload(path))
    assert found == ({} if step is None else {a: (pytest.approx(step), "µm") for a in "xy"})


def test_resolution_tags_can_be_forced(real_files):
    path = real_files("tif").path("optical_Zeiss_AxioVision_BW.tif")
    found = spacing(imload(path, force_read_resolution=True))
    assert found == {a: (pytest.approx(169.3333, rel=1e-6), "µm") for a in "xy"}


def test_digital_micrograph_says_where_a_time_series_begins(encoded):
    tags = {
        65003: (ASCII, "nm"), 65004: (ASCII, "nm"), 65005: (ASCII, "s"), 65006: (DOUBLE, [7.0]),
        65007: (DOUBLE, [-3.0]), 65008: (DOUBLE, [100.0]), 65009: (DOUBLE, [0.5]), 65010: (DOUBLE, [0.25]),
        65011: (DOUBLE, [2.0]), 65022: (ASCII, b"e\xe9"), 65025: (DOUBLE, [3.0]),
    }  # fmt: skip
    ds = imload(encoded([RAMP, RAMP + 1], tags, page_tags=(tags, tags)))
    assert axes(ds) == "tyx"
    assert ds.image.t.values.tolist() == [100, 102]
    assert ds.image.y.values[:2].tolist() == [-3, -2.75]
    assert ds.image.x.values[:2].tolist() == [7, 7.5]
    np.testing.assert_array_equal(ds.image[0], RAMP)  # the intensity's scale is not applied
    assert ds.attrs["metadata"]["fileheader"]["intensity"]["scale"] == 3


FEI = (
    "[Beam]\r\nHV=20000\r\n[Scan]\r\nPixelWidth={}\r\nPixelHeight={}\r\n[Image]\r\nResolutionX=20\r\nResolutionY=10\r\n"
)


@pytest.mark.parametrize("code", [34680, 34682])
def test_fei_pixels_need_not_be_square(encoded, code):
    ds = imload(encoded([RAMP], {code: (ASCII, FEI.format("2e-9", "3e-9")), 282: (RATIONAL, [(72, 1)])}))
    assert spacing(ds) == {"x": (2e-9, "m"), "y": (3e-9, "m")}
    assert ds.attrs["acquisition"]["beam_energy"] == 20
    assert ds.image.attrs["databar_rows"] == 2


@pytest.mark.parametrize("value", ["", "notafloat", "0", "-1"])
def test_fei_values_that_are_no_sizes_are_ignored(encoded, value):
    assert not imload(encoded([RAMP], {34682: (ASCII, FEI.format(value, value))})).coords


@pytest.mark.parametrize(("width", "factor"), [(2048, 0.5), (512, 2)])
def test_zeiss_pixels_are_those_of_a_display(encoded, width, factor):
    text = "0\r\n0\r\n0\r\n2.465e-008\r\n5\r\n" + "\r\n0" * 50 + "\r\nAP_ACTUALKV\r\nEHT = 5.00 kV\r\n"
    ds = imload(encoded([np.zeros((2, width), "u1")], {34118: (ASCII, text)}))
    assert spacing(ds)["x"] == (pytest.approx(2.465e-8 * factor), "m")


def test_a_hitachi_note_calibrates_the_image_beside_it(encoded):
    path = encoded([RAMP])
    note = (
        "; comment\r\n[SemImageFile]\r\nInstructName=S-4800\r\nImageName=image.tif\r\nDataSize=40x24\r\nPixelSize=2.5"
    )
    note += "\r\nAcceleratingVoltage=15000 Volt\r\nWorkingDistance=8100 um\r\nDate=06/13/2016\r\nTime=16:08:49\r\n"
    for encoding in ("latin-1", "utf-16"):
        path.with_name("IMAGE.TXT").write_bytes(note.encode(encoding))
        ds = imload(path)
        assert spacing(ds) == {"x": (5, "nm"), "y": (5, "nm")}  # twice as wide as our image
        assert ds.attrs["acquisition"]["beam_energy"] == 15
        assert ds.attrs["acquisition"]["working_distance"] == pytest.approx(0.0081)
        assert ds.attrs["acquisition"]["start_time"] == "2016-06-13T16:08:49"
    path.with_name("IMAGE.TXT").write_text(note.replace("image.tif", "other.tif"))
    assert not imload(path).coords


def test_a_jeol_note_calibrates_by_its_scale_bar(encoded):
    path = encoded([RAMP])
    path.with_suffix(".txt").write_text(
        "$CM_FORMAT JEOL\n$CM_ACCEL_VOLT 5.0\n$CM_MAG 1000\n$$SM_MICRON_BAR 111\n$$SM_MICRON_MARKER 10um\n"
    )
    ds = imload(path)
    assert spacing(ds) == {a: (pytest.approx(10 / 111), "µm") for a in "xy"}
    assert ds.attrs["acquisition"] == {"beam_energy": 5, "magnification": 1000}


def test_a_note_about_something_else_is_ignored(encoded):
    path = encoded([RAMP])
    path.with_suffix(".txt").write_text("Dear diary")
    assert not imload(path).coords


def spoken(**tags):
    """Page of one vendor, for what no real file shows."""
    values = {int(code[1:]): SimpleNamespace(value=value) for code, value in tags.items()}
    page = SimpleNamespace(tags=values, imagewidth=20, imagelength=12, description=tags.get("t270", ""))
    return Page(None, None, page, "yx", (12, 20), "generic", 0)


def test_tvips_units_are_trusted_in_imaging_only():
    said = {"Version": 2, "TemMode": 0, "PixelSizeX": 1.5, "PixelSizeY": 2.5, "TemMagnification": 500.0}
    assert tvips(spoken(t37706=said)).calibration == {"x": Scale(1.5, "nm"), "y": Scale(2.5, "nm")}
    pattern = tvips(spoken(t37706={**said, "TemMode": 3}, t282=(7038270, 1), t296=3))
    assert not pattern.calibration
    assert pattern.final  # the resolution tags are not asked either
    assert pattern.acquisition["camera_length"] == 500


def test_tvips_version_1_is_calibrated_by_its_resolution():
    found = tvips(spoken(t37706={"Version": 1}, t282=(7038270, 1), t283=(7038270, 1))).calibration
    assert found["x"].step == pytest.approx(1.4208, abs=1e-4)
    assert found["x"].units == "nm"


def test_olympus_sizes_are_in_metres():
    said = {"pixelsizex": 2e-9, "pixelsizey": 3e-9, "magnification": 5000.0, "cameraname": "Veleta"}
    found = olympus(spoken(t33560=said))
    assert found.calibration == {"x": Scale(2e-9, "m"), "y": Scale(3e-9, "m")}
    assert found.acquisition["detector"] == "Veleta"


def test_jeol_scanning_images_are_not_calibrated():
    report = "<TemReporter><Eos><EosMode>eosASID</EosMode></Eos><ImageFormingSystem><ModeString>MAG</ModeString>"
    report += "<SelectorValue>1000</SelectorValue></ImageFormingSystem></TemReporter>"
    assert not jeol(spoken(t271="JEOL Ltd.", t270=report, t282=(93, 1), t283=(93, 1), t296=2)).calibration
    imaging = report.replace("eosASID", "eosTEM")
    found = jeol(spoken(t271="JEOL Ltd.", t270=imaging, t282=(93, 1), t283=(93, 1), t296=2)).calibration
    assert found["x"].step == pytest.approx(0.0254e9 / 93 / 1000)


def test_our_own_record_is_read_first(written):
    record = {
        "version": 1, "axes": "iyx", "shape": [3, 4, 5],
        "coords": {
            "y": {"dims": "y", "dtype": "<f8", "start": 1, "step": 0.5, "attrs": {"units": "mrad"}},
            "i": {"dims": "i", "dtype": "<i8", "values": [3, 5, 4]},
        },
        "acquisition": {"title": "round trip"},
    }  # fmt: skip
    ds = imload(written(ramps(3, 4, 5), metadata={"axes": "IYX", "emio": record}))
    assert ds.image.i.values.tolist() == [3, 5, 4]
    assert ds.image.y.values[:2].tolist() == [1, 1.5]
    assert ds.image.y.units == "mrad"
    assert ds.attrs["acquisition"]["title"] == "round trip"


def test_tags_are_in_the_header_but_tables_are_not(encoded):
    ds = imload(encoded([RAMP], {305: (ASCII, "scope 1.0"), 306: (ASCII, "2016:06:13 16:08:49")}, strips=3))
    header = ds.attrs["metadata"]["fileheader"]
    assert header["Software"] == "scope 1.0"
    assert not {"StripOffsets", "StripByteCounts"} & header.keys()
    assert ds.attrs["acquisition"] == {"start_time": "2016-06-13T16:08:49"}


# Sets of files -------------------------------------------------------------------------------------------------------

SET = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}">'
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="20" SizeY="12" SizeZ="1" '
    'SizeC="1" SizeT="2"><Channel ID="Channel:0" SamplesPerPixel="1"/>'
    '<TiffData FirstT="0" IFD="0" PlaneCount="1"><UUID FileName="a.ome.tif">urn:uuid:1</UUID></TiffData>'
    '<TiffData FirstT="1" IFD="0" PlaneCount="1"><UUID FileName="{other}">urn:uuid:2</UUID></TiffData>'
    "</Pixels></Image></OME>"
)


@pytest.fixture
def ome_set(encoded):
    def write(other="b.ome.tif"):
        for name, own, pixels in (("a.ome.tif", 1, RAMP), ("b.ome.tif", 2, RAMP + 1)):
            path = encoded([pixels], {270: (ASCII, SET.format(own=own, other=other))}, name=name)
        return path.with_name("a.ome.tif")

    return write


def test_a_set_of_ome_files_is_one_image(ome_set):
    ds = imload(ome_set())
    assert axes(ds) == "tyx"
    np.testing.assert_array_equal(ds.image, [RAMP, RAMP + 1])


def test_missing_members_are_refused_or_blank(ome_set):
    path = ome_set()
    path.with_name("b.ome.tif").unlink()
    with pytest.raises(MissingFileError, match=r"files of its OME set are missing: b\.ome\.tif.*allow_missing=True"):
        imload(path)
    image = imload(path, allow_missing=True).image
    np.testing.assert_array_equal(image, [RAMP, RAMP * 0])


def test_members_outside_the_folder_are_refused(ome_set):
    with pytest.raises(HeaderError, match=r"names '\.\./b\.ome\.tif', which is not in the same folder"):
        imload(ome_set("../b.ome.tif"), allow_missing=True)


# Refused -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", HeaderError, r"image\.tif: not a TIFF file: it starts with b''"),
        (b"\x89PNG\r\n\x1a\n", HeaderError, "not a TIFF file: it starts with b'.x89PNG"),
        (b"II*\0", TruncatedError, "needs 8 bytes, but only 4 are there"),
        (b"II*\0\x08\0\0", TruncatedError, "only 7 are there"),
        (b"II*\0\x90\x01\0\0", HeaderError, "image.tif: "),
        (b"II*\0\0\0\0\0", HeaderError, "image.tif: "),
    ],
)
def test_what_is_no_tiff_is_refused(tmp_path, content, error, message):
    path = tmp_path / "image.tif"
    path.write_bytes(content)
    with pytest.raises(error, match=message):
        TifSource(path).to_dask()


def test_cut_files_are_refused_when_they_are_opened(encoded, written):
    path = encoded([RAMP, RAMP])
    whole = path.read_bytes()
    path.write_bytes(whole[:500])
    with pytest.raises(EmioError, match=r"image\.tif"):
        imload(path)
    packed = written(ramps(3, 64, 64), metadata=None, compression=None)
    content = packed.read_bytes()
    with tifffile.TiffFile(packed) as tiff:
        last = tiff.pages[2].dataoffsets[0]
    packed.write_bytes(content[: last + 100])
    with pytest.raises(TruncatedError, match=r"image\.tif: the directory of page 1 should be at byte"):
        imload(packed)


@pytest.mark.parametrize(
    "said", ["ImageJ=1.54\nimages=5\nslices=5\n", '{"shape": [5, 12, 20], "axes": "ZYX", "truncated": true}']
)
def test_stacks_of_one_directory_that_are_cut_are_refused(encoded, said):
    path = encoded([RAMP], {270: (ASCII, said), 273: (LONG, [4096])})
    path.write_bytes(path.read_bytes().ljust(4096 + 5 * 480, b"\1"))
    assert imload(path).image.shape == (5, 12, 20)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(TruncatedError, match=r"image\.tif: page 3 of 5 is cut"):
        imload(path)


@pytest.mark.parametrize("strips", [1, 3])
def test_a_page_behind_the_end_is_named(encoded, strips):
    path = encoded([RAMP], {273: (LONG, [400 + 160 * k for k in range(strips)])}, strips=strips)
    with pytest.raises(TruncatedError, match=r"image\.tif: page 0 "):
        imload(path)


def test_absurd_sizes_are_refused_before_anything_is_allocated(encoded):
    path = encoded([RAMP], {256: (LONG, [2**31 - 1]), 257: (LONG, [2**31 - 1]), 278: (LONG, [2**31 - 1])})
    with pytest.raises(EmioError, match=r"image\.tif: "):
        imload(path)
    few = encoded([RAMP], {257: (LONG, [2**20]), 278: (LONG, [4]), 259: (SHORT, [8])}, strips=3)
    with pytest.raises(HeaderError, match="page 0 has 3 strips or tiles, but 262144 make up its shape"):
        imload(few)


@pytest.mark.parametrize("count", [1, 3, 150])
def test_a_chain_of_directories_that_loops_is_read_once(encoded, count):
    pages = [RAMP + k for k in range(count)]
    path = encoded(pages, loop=True)
    with pytest.warns(EmioWarning, match="the chain of its directories loops"):
        ds = imload(path)
    np.testing.assert_array_equal(ds.image.values.reshape(-1, 12, 20), pages)


@pytest.mark.parametrize("compression", [34663, 9999])
def test_unknown_compressions_are_refused_when_the_file_is_opened(encoded, compression):
    path = encoded([RAMP], {259: (SHORT, [compression])})
    with pytest.raises(HeaderError, match=f"compression {compression} .* cannot be decoded: pip install"):
        imload(path)


def test_harmful_xml_is_refused(encoded):
    with pytest.raises(HeaderError, match="its OME-XML is refused"):
        imload(encoded([RAMP], {270: (ASCII, HARMFUL)}))


def test_folders_and_missing_files_are_refused(tmp_path):
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(EmioError, match=r"folder\.tif"):
        imload(tmp_path / "folder.tif")
    with pytest.raises(MissingFileError, match=r"nothing\.tif"):
        imload(tmp_path / "nothing.tif")


def test_broken_vendor_metadata_do_not_hide_the_pixels(encoded):
    with pytest.warns(EmioWarning, match="metadata of jeol files cannot be read"):
        ds = imload(encoded([RAMP], {271: (ASCII, "JEOL Ltd."), 270: (ASCII, "<TemReporter><a>")}))
    np.testing.assert_array_equal(ds.image, RAMP)


# Recognition ---------------------------------------------------------------------------------------------------------


def test_content_tells_in_all_four_dialects(encoded):
    for order in "<>":
        for big in (False, True):
            path = encoded([RAMP], order=order, big=big, name="image.dat")
            assert detect(path).format == "tif"


def test_opening_is_silent(written, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        imload(written(ramps(3, 4, 5), imagej=True, metadata={"axes": "ZYX"}))
    assert capfd.readouterr() == ("", "")
