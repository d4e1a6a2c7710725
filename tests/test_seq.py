"""Reading Norpix sequences and what Direct Electron's cameras put beside them."""

import pickle
import struct

import dask
import numpy as np
import pytest

import intake_emio as emio
from intake_emio.errors import ArgumentError, EmioError, HeaderError, MissingFileError, TruncatedError
from intake_emio.formats.seq import SeqSource
from intake_emio.frames.files import File

from .encoders.seq import (
    BadPixelMap,
    write_celeritas,
    write_config_xml,
    write_metadata,
    write_seq,
    write_sidecar_mrc,
)

MAGIC = bytes.fromhex("ed fe 00 00")


def frames(n=6, height=5, width=7, dtype="u2"):
    limit = np.iinfo(dtype).max
    return np.random.default_rng(3).integers(0, limit, (n, height, width), dtype, endpoint=True)


def worked(count=2, stride=16):
    """Two frames of 2 x 3 bytes, by hand: 6 pixels, stamps of 8 bytes at second 100 and 0.25 s later, 2 bytes more."""
    header = bytearray(8192)
    header[:4] = MAGIC
    header[4:24] = "Norpix seq".encode("utf-16-le")
    struct.pack_into("<ii", header, 28, 5, 1024)
    header[36:52] = "by hand".encode("utf-16-le") + b"\0\0"
    header[52:60] = b"\x00\xd8\xff\xff\x01\xdc\x41\x00"  # garbage: no UTF-16
    struct.pack_into("<IIIIIIIII", header, 548, 3, 2, 8, 8, 6, 100, count, 0, stride)
    struct.pack_into("<d", header, 584, 40.0)
    first = bytes([1, 2, 3, 4, 5, 6]) + bytes.fromhex("64 00 00 00 00 00 00 00 aa aa")
    second = bytes([7, 8, 9, 10, 11, 12]) + bytes.fromhex("64 00 00 00 fa 00 05 00 aa aa")
    return bytes(header) + first + second


@pytest.fixture
def seq(tmp_path):
    return tmp_path / "scan.seq"


def test_the_file_worked_by_hand_is_read(seq):
    seq.write_bytes(worked())
    ds = emio.imload(seq)
    assert ds.image.dims == ("i", "y", "x")
    assert ds.image.dtype == np.uint8
    assert ds.image.values.tolist() == [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]
    assert ds.time.values.tolist() == [0, 0.250005]
    assert ds.time.attrs == {"units": "s"}
    assert ds.attrs["metadata"]["fileheader"]["description"] == "by hand"
    assert ds.attrs["metadata"]["fileheader"]["name"] == "Norpix seq"
    assert ds.attrs["acquisition"] == {
        "frame_rate": 40.0,
        "bit_depth_real": 8,
        "start_time": "1970-01-01T00:01:40.000000",
    }


@pytest.mark.parametrize("name", ["a.seq", "A.SEQ", "a.seq.seq", "a.dat"])
def test_a_sequence_is_recognised_whatever_it_is_called(tmp_path, name):
    assert emio.detect(write_seq(tmp_path / name, frames())).format == "seq"


@pytest.mark.parametrize("chunks", [None, "auto", "frame"])
@pytest.mark.parametrize("version", [3, 4, 5, 6])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_pixels_of_all_versions_and_depths_are_read(seq, dtype, version, chunks):
    pixels = frames(dtype=dtype)
    write_seq(seq, pixels, version=version)
    image = emio.imload(seq, chunks=chunks).image
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize(("shape", "dtype", "stride"), [((36, 32), "u1", 8192), ((64, 64), "u2", 16384)])
def test_strides_are_those_of_real_files(seq, shape, dtype, stride):
    pixels = frames(3, *shape, dtype=dtype)
    write_seq(seq, pixels, times=1)
    assert seq.stat().st_size == 8192 + 3 * stride
    np.testing.assert_array_equal(emio.imload(seq).image, pixels)


@pytest.mark.parametrize("io_backend", ["mmap", "buffered"])
def test_all_ways_to_the_disk_read_the_same(seq, io_backend):
    pixels = frames()
    write_seq(seq, pixels, times=np.arange(6) + 9.5)
    ds = emio.imload(seq, chunks=None, io_backend=io_backend)
    np.testing.assert_array_equal(ds.image, pixels)
    np.testing.assert_array_equal(ds.time, np.arange(6))


def test_a_remote_sequence_with_its_sidecars_reads_as_a_local_one(seq):
    fsspec = pytest.importorskip("fsspec")
    pixels = frames()
    write_seq(seq, pixels)
    write_sidecar_mrc(f"{seq}.dark.mrc", np.ones((5, 7)))
    for path in (seq, seq.parent / "scan.seq.dark.mrc"):
        with fsspec.open(f"memory://seq/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    np.testing.assert_array_equal(emio.imload("memory://seq/scan.seq").image, pixels.astype("f4") - 1)


def test_a_source_pickles_and_its_graph_runs_on_threads_and_processes(seq):
    pixels = frames()
    write_seq(seq, pixels)
    write_sidecar_mrc(f"{seq}.gain.mrc", np.full((5, 7), 2))
    source = pickle.loads(pickle.dumps(SeqSource(seq)))
    image = source.to_dask().image
    with dask.config.set(scheduler="threads"):
        np.testing.assert_array_equal(image, pixels.astype("f4") * 2)
    again = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(again, pixels.astype("f4") * 2)


# Time ----------------------------------------------------------------------------------------------------------------


def test_the_example_of_a_time_stamp(seq):
    write_seq(seq, frames(1), times=1435776075.775430)
    ds = emio.imload(seq)
    assert ds.attrs["acquisition"]["start_time"] == "2015-07-01T18:41:15.775430"


def test_stamps_of_old_versions_have_no_microseconds(seq):
    write_seq(seq, frames(2), version=4, times=[7.1234, 7.9876], true_image_size=5 * 7 * 2 + 6)
    np.testing.assert_allclose(emio.imload(seq).time, [0, 0.864], atol=1e-9)


@pytest.mark.parametrize(("version", "room"), [(5, 7), (3, 5), (5, 0)])
def test_without_room_for_stamps_there_are_no_times(seq, version, room):
    write_seq(seq, frames(), version=version, times=9, true_image_size=5 * 7 * 2 + room)
    ds = emio.imload(seq)
    assert "time" not in ds.coords
    assert "start_time" not in ds.attrs["acquisition"]


def test_blank_stamps_are_no_times(seq):
    write_seq(seq, frames(), times=0)
    assert "time" not in emio.imload(seq).coords


def test_times_follow_the_scan_and_blank_frames_have_none(seq):
    write_seq(seq, frames(), times=np.arange(6) + 3)
    ds = emio.imload(seq, nav_shape=(2, 3), sync_offset=-1)
    assert ds.time.dims == ("y", "x")
    np.testing.assert_array_equal(ds.time, [[np.nan, 0, 1], [2, 3, 4]])
    assert emio.imload(seq, partition={"i": [4, 1]}).time.values.tolist() == [4, 1]


# Arguments -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("nav_shape", "dims"), [(None, "iyx"), (6, "iyx"), ("(2, 3)", "yxvu"), ((1, 2, 3), "iyxvu")])
def test_nav_shape_names_the_axes(seq, nav_shape, dims):
    pixels = frames()
    write_seq(seq, pixels)
    image = emio.imload(seq, nav_shape=nav_shape).image
    assert "".join(image.dims) == dims
    np.testing.assert_array_equal(image.values.reshape(pixels.shape), pixels)


def test_sync_offset_skips_junk_before_the_scan(seq):
    pixels = frames()
    write_seq(seq, pixels)
    np.testing.assert_array_equal(
        emio.imload(seq, nav_shape=(2, 2), sync_offset=2).image, pixels[2:].reshape(2, 2, 5, 7)
    )


def test_a_scan_larger_than_the_file_is_blank_at_its_end(seq):
    pixels = frames()
    write_seq(seq, pixels)
    write_sidecar_mrc(f"{seq}.dark.mrc", np.ones((5, 7)))
    with pytest.warns(emio.EmioWarning, match="2 of 8 frames are missing"):
        image = emio.imload(seq, nav_shape=(2, 4)).image
    np.testing.assert_array_equal(image[1, 2:], np.zeros((2, 5, 7)))


def test_sig_shape_has_as_many_pixels_and_is_corrected_before_it_is_reshaped(seq):
    pixels = frames()
    write_seq(seq, pixels)
    dark = np.arange(35).reshape(5, 7)
    write_sidecar_mrc(f"{seq}.dark.mrc", dark)
    write_config_xml(f"{seq}.Config.Metadata.xml", [BadPixelMap(5, 7, [{"Row": 2, "Column": 3}])])
    whole = emio.imload(seq).image.values
    reshaped = emio.imload(seq, sig_shape=(7, 5)).image
    np.testing.assert_array_equal(reshaped, whole.reshape(6, 7, 5))
    np.testing.assert_array_equal(reshaped[:, 2:4, 1:3].compute(), whole.reshape(6, 7, 5)[:, 2:4, 1:3])
    with pytest.raises(ArgumentError, match="sig_shape"):
        emio.imload(seq, sig_shape=(7, 6))


# Counting frames -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("claimed", [0, 1, 10, 2**32 - 1])
def test_the_file_knows_better_than_the_header_how_many_frames_there_are(seq, claimed):
    pixels = frames()
    write_seq(seq, pixels, allocated_frames=claimed)
    with pytest.warns(emio.EmioWarning, match=f"counts {claimed} frames, the file has 6"):
        ds = emio.imload(seq)
    np.testing.assert_array_equal(ds.image, pixels)


def test_an_incomplete_last_frame_is_left_out(seq):
    pixels = frames()
    write_seq(seq, pixels, allocated_frames=5)
    seq.write_bytes(seq.read_bytes()[:-1])
    with pytest.warns(emio.EmioWarning, match="last frame is incomplete"):
        ds = emio.imload(seq)
    np.testing.assert_array_equal(ds.image, pixels[:5])


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"magic": 0xFEEE}, "not a Norpix sequence"),
        ({"width": 0}, "there are none"),
        ({"height": 0}, "there are none"),
        ({"bit_depth": 12}, "bit depth 12"),
        ({"bit_depth": 64}, "bit depth 64"),
        ({"image_format": 101}, "only monochrome"),
        ({"compression_format": 1}, "export it uncompressed"),
        ({"true_image_size": 0}, "too few"),
        ({"true_image_size": 69}, "too few"),
        ({"width": 2**31, "height": 2**31}, "too few"),
        ({"true_image_size": 2**32 - 1}, "no whole frame"),
    ],
)
def test_headers_that_make_no_sense_are_refused(seq, fields, match):
    write_seq(seq, frames(), header=fields)
    with pytest.raises(EmioError, match=rf"scan\.seq.*{match}"):
        emio.imload(seq, format="seq")


@pytest.mark.parametrize("size", [4, 600, 631])
def test_a_header_that_is_cut_short_is_refused(seq, size):
    seq.write_bytes(worked()[:size])
    with pytest.raises(TruncatedError, match="header"):
        emio.imload(seq)


@pytest.mark.parametrize("size", [632, 8191, 8192, 8207])
def test_a_file_without_a_whole_frame_is_refused(seq, size):
    seq.write_bytes(worked()[:size])
    with pytest.raises(TruncatedError, match="no whole frame"):
        emio.imload(seq)


# Sidecars ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("main", "dark"),
    [
        ("b.seq", "b.seq.dark.mrc"),
        ("b.seq", "b.dark.mrc"),
        ("b.seq.seq", "b.seq.dark.mrc"),
        ("b.seq.seq", "b.dark.mrc"),
    ],
)
def test_sidecars_are_found_under_all_their_names(tmp_path, main, dark):
    pixels = frames()
    write_seq(tmp_path / main, pixels)
    write_sidecar_mrc(tmp_path / dark, np.full((5, 7), 100))
    ds = emio.imload(tmp_path / main)
    np.testing.assert_array_equal(ds.image, pixels.astype("f4") - 100)
    assert ds.attrs["acquisition"]["corrections"] == {"dark": dark}


@pytest.mark.parametrize(("dtype", "result"), [("u1", "f4"), ("u2", "f4"), ("u4", "f8")])
def test_dark_and_gain_are_applied_without_doing_anything(seq, dtype, result):
    pixels = frames(dtype=dtype)
    dark, gain = np.random.default_rng(1).random((2, 5, 7)).astype("f4")
    write_seq(seq, pixels)
    write_sidecar_mrc(f"{seq}.dark.mrc", dark, stale_tail=b"\xff" * 999)
    write_sidecar_mrc(f"{seq}.gain.mrc", gain, extended=b"\xff" * 64)
    image = emio.imload(seq).image
    assert image.dtype == np.dtype(result)
    np.testing.assert_allclose(image, (pixels.astype("f8") - dark) * gain, rtol=1e-6)
    assert image.attrs["corrections"] == {"dark": "scan.seq.dark.mrc", "gain": "scan.seq.gain.mrc"}


@pytest.mark.parametrize("off", [False, None, "False"])
def test_without_corrections_nothing_beside_the_file_is_opened(seq, off):
    pixels = frames()
    write_seq(seq, pixels)
    for suffix in ("dark.mrc", "gain.mrc", "Config.Metadata.xml", "metadata"):
        (seq.parent / f"scan.seq.{suffix}").write_bytes(b"junk")
    image = emio.imload(seq, corrections=off).image
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, pixels)


def test_corrections_of_the_user_replace_those_of_the_camera(seq):
    pixels = frames()
    write_seq(seq, pixels)
    write_sidecar_mrc(f"{seq}.dark.mrc", np.ones((5, 7)))
    ds = emio.imload(seq, corrections={"gain": np.full((5, 7), 2)})
    np.testing.assert_array_equal(ds.image, pixels.astype("f4") * 2)
    assert emio.imload(seq, corrections={}).image.dtype == np.uint16


@pytest.mark.parametrize("shape", [(7, 5), (5, 6), (10, 14), (1, 35)])
@pytest.mark.parametrize("which", ["dark", "gain"])
@pytest.mark.parametrize("corrections", ["auto", True])
def test_references_of_another_shape_are_refused(seq, which, shape, corrections):
    write_seq(seq, frames())
    write_sidecar_mrc(f"{seq}.{which}.mrc", np.ones(shape))
    with pytest.raises(ArgumentError) as error:
        emio.imload(seq, corrections=corrections)
    for word in (f"scan.seq.{which}.mrc", str(shape), "(5, 7)", "corrections=False"):
        assert word in str(error.value)


@pytest.mark.parametrize("size", [0, 1000, 1024, 1024 + 139])
def test_references_that_are_too_short_are_refused(seq, size):
    write_seq(seq, frames())
    dark = write_sidecar_mrc(f"{seq}.dark.mrc", np.ones((5, 7)))
    dark.write_bytes(dark.read_bytes()[:size])
    with pytest.raises(TruncatedError, match=r"dark\.mrc"):
        emio.imload(seq)


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"junk",
        b"<Configuration><FileInfo></Configuration>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><Configuration>&b;</Configuration>',
    ],
)
@pytest.mark.parametrize("corrections", ["auto", True])
def test_a_broken_configuration_is_refused(seq, xml, corrections):
    write_seq(seq, frames())
    (seq.parent / "scan.seq.Config.Metadata.xml").write_bytes(xml)
    with pytest.raises(HeaderError, match=r"Config\.Metadata\.xml.*corrections=False"):
        emio.imload(seq, corrections=corrections)
    with pytest.warns(emio.EmioWarning, match="ignored"):
        emio.imload(seq, corrections={"gain": np.ones((5, 7))})


def test_the_configuration_knows_more_than_the_header(seq):
    write_seq(seq, frames(), frame_rate=100)
    info = {"FrameRate": 50, "HT": 200, "Mag": 0, "CameraType": "DE-16", "TotalFrames": 6}
    write_config_xml(f"{seq}.Config.Metadata.xml", file_info=info)
    ds = emio.imload(seq)
    assert ds.image.dtype == np.uint16
    facts = ds.attrs["acquisition"]
    assert facts["frame_rate"] == 50
    assert facts["exposure_time"] == 0.02
    assert facts["beam_energy"] == 200
    assert facts["detector"] == "DE-16"
    assert "magnification" not in facts
    assert ds.attrs["metadata"]["fileheader"]["FileInfo"]["TotalFrames"] == "6"


def test_the_header_alone_gives_a_frame_rate_but_no_exposure(seq):
    write_seq(seq, frames(), frame_rate=100)
    assert emio.imload(seq).attrs["acquisition"] == {"frame_rate": 100.0, "bit_depth_real": 16}


# Dead pixels ---------------------------------------------------------------------------------------------------------


def dead(seq):
    """Flat numbers of the dead pixels that are found."""
    return sorted(SeqSource(seq).parse(File(str(seq))).corrections.excluded)


def flat(rows, columns, width):
    return sorted(r * width + c for r in rows for c in columns)


@pytest.mark.parametrize("root", ["Configuration", "BadPixels"])
@pytest.mark.parametrize(
    ("defect", "rows", "columns"),
    [
        ({"Row": 3}, [3], range(9)),
        ({"Rows": "2-4"}, [2, 3, 4], range(9)),
        ({"Row": 0}, [0], range(9)),
        ({"Column": 8}, range(6), [8]),
        ({"Columns": "0-1"}, range(6), [0, 1]),
        ({"Column": 5, "Row": 2}, [2], [5]),
        ({"Columns": "3-5", "Row": 2}, [2], [3, 4, 5]),
        ({"Column": 1, "Rows": "4-5"}, [4, 5], [1]),
        ({"Columns": "1-2", "Rows": "0-3"}, range(4), [1, 2]),
        ({"Rows": "4-99"}, [4, 5], range(9)),
        ({"Row": 77}, [], []),
        ({"Columns": "1-8", "Row": 2, "pattern": "0011"}, [2], [3, 4, 7, 8]),
        ({"Rows": "1-4", "Column": 0, "pattern": "10"}, [1, 3], [0]),
        ({"Rows": "1-4", "pattern": "01"}, [2, 4], range(9)),
    ],
)
def test_defects_are_drawn_with_both_ends(seq, defect, rows, columns, root):
    write_seq(seq, frames(1, 6, 9))
    write_config_xml(f"{seq}.Config.Metadata.xml", [BadPixelMap(6, 9, [defect])], root=root)
    assert dead(seq) == flat(rows, columns, 9)


def test_examples_in_comments_are_no_defects(seq):
    write_seq(seq, frames())
    write_config_xml(f"{seq}.Config.Metadata.xml", [BadPixelMap(5, 7)])
    assert dead(seq) == []
    assert emio.imload(seq).image.dtype == np.uint16


@pytest.mark.parametrize("layout", ["A", "B"])
def test_the_worked_example_of_a_region(seq, layout):
    write_seq(seq, np.broadcast_to(np.zeros((), "u1"), (1, 1024, 1024)))
    defects = [{"Rows": "2311-2312"}, {"Column": 2311}]
    write_config_xml(f"{seq}.Config.Metadata.xml", [BadPixelMap(4096, 4096, defects)])
    write_metadata(f"{seq}.metadata", roi=(1536, 1536, 1024, 1024), layout=layout)
    expected = set(flat([775, 776], range(1024), 1024)) | set(flat(range(1024), [775], 1024))
    assert dead(seq) == sorted(expected)


@pytest.mark.parametrize("layout", ["A", "B"])
def test_the_worked_example_with_binning(seq, layout):
    write_seq(seq, np.broadcast_to(np.zeros((), "u1"), (1, 512, 512)))
    maps = [
        BadPixelMap(4096, 4096, [{"Row": 2000}]),
        BadPixelMap(2048, 2048, [{"Rows": "1250-1252"}, {"Columns": "768-770"}], binning=2),
    ]
    write_config_xml(f"{seq}.Config.Metadata.xml", maps)
    write_metadata(f"{seq}.metadata", roi=(1536, 1536, 1024, 1024), binning=2, layout=layout)
    expected = set(flat([482, 483, 484], range(512), 512)) | set(flat(range(512), [0, 1, 2], 512))
    assert dead(seq) == sorted(expected)


def test_without_a_binned_map_the_whole_one_is_reduced(seq):
    write_seq(seq, frames(1, 4, 4))
    defects = [{"Row": 9}, {"Row": 14, "Column": 13}]  # in blocks of 3, row 3; row 4, column 4
    write_config_xml(f"{seq}.Config.Metadata.xml", [BadPixelMap(18, 18, defects)])
    write_metadata(f"{seq}.metadata", roi=(3, 6, 13, 14), binning=3)
    assert dead(seq) == sorted({*flat([2], range(4), 4), *flat([3], [2], 4)})


def test_the_map_with_most_columns_is_taken(seq):
    write_seq(seq, frames(1, 4, 4))
    maps = [BadPixelMap(4, 3, [{"Row": 0}]), BadPixelMap(4, 4, [{"Row": 1}]), BadPixelMap(9, 9, [{"Row": 2}], 2)]
    write_config_xml(f"{seq}.Config.Metadata.xml", maps)
    assert dead(seq) == flat([1], range(4), 4)


def test_the_region_may_stand_in_the_configuration(seq):
    write_seq(seq, frames(1, 4, 5))
    info = {"ImageSizeX": 10, "ImageSizeY": 8, "ImageOffsetX": 2, "ImageOffsetY": 4, "ImageBinning": 2}
    write_config_xml(f"{seq}.Config.Metadata.xml", [BadPixelMap(40, 20, [{"Row": 7, "Column": 6}], 2)], file_info=info)
    assert dead(seq) == []
    write_config_xml(f"{seq}.Config.Metadata.xml", [BadPixelMap(40, 20, [{"Row": 4, "Column": 3}], 2)], file_info=info)
    assert dead(seq) == [2 * 5 + 2]


@pytest.mark.parametrize(
    "fields", [{"width": 0}, {"offset_x": -1}, {"binning": 0}, {"binning": 65}, {"height": 70000}, {"height": 8}]
)
def test_metadata_from_uninitialised_memory_are_ignored(seq, fields):
    write_seq(seq, frames())
    write_config_xml(f"{seq}.Config.Metadata.xml", [BadPixelMap(5, 7, [{"Row": 1, "Column": 1}])])
    write_metadata(f"{seq}.metadata", roi=(0, 0, 5, 7), fields=fields)
    with pytest.warns(emio.EmioWarning, match=r"scan\.seq\.metadata.*ignored"):
        assert dead(seq) == [8]


@pytest.mark.parametrize(
    ("maps", "roi", "match"),
    [
        ([BadPixelMap(20, 20, [{"Row": 1}])], None, "which region"),
        ([BadPixelMap(20, 20, [{"Row": 1}])], (16, 0, 5, 7), "reach beyond"),
        ([BadPixelMap(5, 7, [{"Row": "one"}])], None, "no row"),
        ([BadPixelMap(5, 7, [{"Rows": "3-1"}])], None, "no row"),
        ([BadPixelMap(5, 7, [{"pattern": "01"}])], None, "neither"),
        ([BadPixelMap(5, 7, [{"Rows": "0-1", "pattern": "02"}])], None, "pattern"),
        ([BadPixelMap(10**9, 7, [{"Row": 1}])], None, "Rows"),
        ([BadPixelMap(5, 7, [{"Row": 1}], 2)], None, "no map"),
    ],
)
def test_faults_with_dead_pixels_are_warnings_unless_repair_was_asked_for(seq, maps, roi, match):
    pixels = frames()
    write_seq(seq, pixels)
    write_config_xml(f"{seq}.Config.Metadata.xml", maps)
    write_sidecar_mrc(f"{seq}.dark.mrc", np.ones((5, 7)))
    if roi:
        write_metadata(f"{seq}.metadata", roi=roi)
    with pytest.warns(emio.EmioWarning, match=match):
        image = emio.imload(seq).image
    np.testing.assert_array_equal(image, pixels.astype("f4") - 1)
    with pytest.raises(HeaderError, match=match):
        emio.imload(seq, corrections=True)


def test_holes_stay_as_they_are_with_a_warning_unless_repair_was_asked_for(seq):
    pixels = frames()
    write_seq(seq, pixels)
    write_config_xml(f"{seq}.Config.Metadata.xml", [BadPixelMap(5, 7, [{"Rows": "1-3"}])])
    with pytest.warns(emio.EmioWarning, match="7 dead pixels have no good neighbour"):
        image = emio.imload(seq).image
    np.testing.assert_array_equal(image[:, 2], pixels[:, 2])
    np.testing.assert_allclose(image[:, 1, 0], pixels[:, 0, :2].mean(1), rtol=1e-6)
    with pytest.raises(ArgumentError, match="no good neighbour"):
        emio.imload(seq, corrections=True)


def test_dead_rows_are_repaired(seq):
    pixels = frames()
    write_seq(seq, pixels)
    write_config_xml(f"{seq}.Config.Metadata.xml", [BadPixelMap(5, 7, [{"Row": 2}])])
    ds = emio.imload(seq, corrections=True)
    assert ds.attrs["acquisition"]["corrections"] == {"excluded_pixels": 7}
    above_and_below = pixels[:, [1, 3]].astype("f8")
    np.testing.assert_allclose(ds.image[:, 2, 3], above_and_below[:, :, 2:5].mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(ds.image[:, 2, 0], above_and_below[:, :, :2].mean((1, 2)), rtol=1e-6)


# Celeritas -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prebuffer", [1, 2, 3])
@pytest.mark.parametrize("opened", [0, 1])
@pytest.mark.parametrize("chunks", [None, {"i": 5}])
def test_halves_of_celeritas_recordings_are_joined(tmp_path, prebuffer, opened, chunks):
    pixels = frames(12, 6, 5)
    paths = write_celeritas(tmp_path, "run", pixels, prebuffer=prebuffer)
    ds = emio.imload(paths[opened], chunks=chunks)
    assert ds.image.dims == ("i", "y", "x")
    np.testing.assert_array_equal(ds.image, pixels)
    cut = ds.image[2:11:3, 1:5:2, 1:]
    np.testing.assert_array_equal(cut, pixels[2:11:3, 1:5:2, 1:])
    np.testing.assert_array_equal(ds.image[4, 4:], pixels[4, 4:])


def test_celeritas_records_are_read_by_hand(tmp_path):
    header = bytearray(worked()[:8192])
    struct.pack_into("<IIIIIIIII", header, 548, 1, 4, 8, 8, 4, 100, 1, 0, 4)
    # per record two half-images of two rows and one column; rows of the top half run upwards
    (tmp_path / "r_Top_1.seq").write_bytes(bytes(header) + bytes([2, 1, 6, 5]))
    (tmp_path / "r_Bottom_2.seq").write_bytes(bytes(header) + bytes([3, 4, 7, 8]))
    image = emio.imload(tmp_path / "r_Top_1.seq", segment_prebuffer="2").image
    assert image[..., 0].values.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_celeritas_scans_are_corrected_as_whole_frames_and_timed_by_record(tmp_path):
    pixels = frames(12, 6, 5)
    top, _ = write_celeritas(tmp_path, "run", pixels, prebuffer=4, times=[5, 6.5, 9])
    dark = np.arange(30).reshape(6, 5)
    write_sidecar_mrc(tmp_path / "run.seq.dark.mrc", dark)
    ds = emio.imload(top, nav_shape=(3, 4), sync_offset=-1)
    expected = np.concatenate([np.zeros((1, 6, 5)), pixels[:11] - dark.astype("f4")]).reshape(3, 4, 6, 5)
    np.testing.assert_array_equal(ds.image, expected.astype("f4"))
    np.testing.assert_array_equal(ds.time, [[np.nan, 0, 0, 0], [0, 1.5, 1.5, 1.5], [1.5, 4, 4, 4]])
    np.testing.assert_allclose(ds.image.emio.mean("yx"), expected.mean((0, 1)), rtol=1e-5)


def test_the_shorter_half_says_how_many_records_there_are(tmp_path):
    pixels = frames(4, 6, 5)
    top, _ = write_celeritas(tmp_path, "run", pixels, prebuffer=2, surplus=1)
    with pytest.warns(emio.EmioWarning, match="top half has 2 records, the bottom half 3"):
        np.testing.assert_array_equal(emio.imload(top).image, pixels)


def test_recordings_with_the_same_name_are_paired_in_order(tmp_path):
    first, second = frames(2, 6, 5), frames(4, 6, 5)[2:]
    write_celeritas(tmp_path, "run", first, prebuffer=1, started=("12-00-00.1", "12-00-00.2"))
    top, bottom = write_celeritas(tmp_path, "run", second, prebuffer=1, started=("12-01-00.1", "12-01-00.2"))
    np.testing.assert_array_equal(emio.imload(bottom).image, second)
    np.testing.assert_array_equal(emio.imload(tmp_path / "run_Top_12-00-00.1.seq").image, first)
    bottom.unlink()
    with pytest.raises(HeaderError, match="which of"):
        emio.imload(top)


def test_a_single_half_is_refused_unless_it_is_wanted_alone(tmp_path):
    pixels = frames(4, 6, 5)
    top, bottom = write_celeritas(tmp_path, "run", pixels, prebuffer=2)
    bottom.unlink()
    with pytest.raises(MissingFileError, match=r"run_Bottom_….seq.*celeritas=False"):
        emio.imload(top)
    image = emio.imload(top, celeritas=False, corrections=False).image
    np.testing.assert_array_equal(image, pixels[:, 2::-1].reshape(2, 6, 5))


@pytest.mark.parametrize("prebuffer", [None, 4])
def test_records_that_cannot_be_divided_are_refused(tmp_path, prebuffer):
    top, _ = write_celeritas(tmp_path, "run", frames(4, 6, 5), prebuffer=2, config=False)
    with pytest.raises(HeaderError, match="segment_prebuffer"):
        emio.imload(top, segment_prebuffer=prebuffer)


def test_celeritas_must_be_called_so(seq):
    write_seq(seq, frames())
    with pytest.raises(ArgumentError, match="_Top_"):
        emio.imload(seq, celeritas=True)


# Other software ------------------------------------------------------------------------------------------------------


@pytest.mark.peers
def test_libertem_reads_and_corrects_the_same(seq):
    libertem = pytest.importorskip("libertem.api")
    pixels = frames(6, 16, 16)
    dark, gain = np.random.default_rng(1).random((2, 16, 16)).astype("f4")
    write_seq(seq, pixels)
    write_sidecar_mrc(f"{seq}.dark.mrc", dark * 100, nz=1)
    write_sidecar_mrc(f"{seq}.gain.mrc", gain, nz=1)
    write_config_xml(f"{seq}.Config.Metadata.xml", [BadPixelMap(32, 32, [{"Row": 9}, {"Column": 12, "Row": 14}])])
    write_metadata(f"{seq}.metadata", roi=(4, 8, 16, 16), layout="B")
    context = libertem.Context.make_with("inline")
    dataset = context.load("seq", path=str(seq), nav_shape=(2, 3))
    from libertem.udf.raw import PickUDF

    roi = np.ones((2, 3), bool)
    picked = context.run_udf(dataset=dataset, udf=PickUDF(), roi=roi)["intensity"].data
    ours = emio.imload(seq, nav_shape=(2, 3), corrections=True).image
    np.testing.assert_allclose(ours.values.reshape(6, 16, 16), picked, rtol=1e-5, atol=1e-2)
