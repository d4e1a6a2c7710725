"""Reading Merlin acquisitions."""

import hashlib
import json
import pickle
import shutil
import warnings

import numpy as np
import pytest

import intake_emio as emio
from intake_emio.detection import detect, open_source
from intake_emio.errors import (
    ArgumentError,
    EmioError,
    EmioWarning,
    HeaderError,
    MissingFileError,
    TruncatedError,
    UnknownFormatError,
)
from intake_emio.formats.mib import MibSource
from intake_emio.frames.decoders import FourQuarters, HighAndLow, ReversedWords, TextField

from .encoders.mib import Dialect, write_hdr, write_legacy_mib, write_mib, write_mib_series

REAL = [
    "001_4x2_6bit.mib",
    "002_merlin_test_roi_sig256x128_nav4x2_hot_pixel_52x_39y.mib",
    *(f"Quad_1_Frame_CounterDepth_{depth}_Rows_256.mib" for depth in (1, 6, 12, 24)),
    *(f"Single_1_Frame_CounterDepth_{depth}_Rows_256.mib" for depth in (1, 6, 12)),
    *(f"Single_9_Frame_CounterDepth_{depth}_Rows_256.mib" for depth in (1, 6, 12)),
    "Quad_1_Frame_CounterDepth_1_Rows_256RAW.mib",
    "Single_1_Frame_CounterDepth_1_Rows_256RAW.mib",
]
RAW_DEPTHS = (1, 6, 12, 24)
RAW_TYPES = {1: "u1", 6: "u1", 12: "u2", 24: "u4"}


def frames(count=6, shape=(4, 16), dtype="u2", bits=None):
    limit = 1 << (bits or 8 * np.dtype(dtype).itemsize)
    return np.random.default_rng(3).integers(0, limit, (count, *shape), dtype)


def numbered(count, shape=(2, 8), first=1):
    """Frames whose pixels are all the frame's number."""
    return np.broadcast_to(np.arange(first, first + count, dtype="u2")[:, None, None], (count, *shape))


def numbers(image):
    """Which frame is at each point; 0 is a blank one."""
    return image.isel({image.dims[-1]: 0, image.dims[-2]: 0}).values.tolist()


def one_frame(header, pixels, size=384):
    return header.encode("latin-1").ljust(size, b"\0") + pixels


def raw(depth, pixels, chips=1, width=None, height=1, layout="1x1"):
    """File of one raw frame from its stored bytes, worked by hand."""
    text = (
        f"MQ1,000001,00384,{chips:02},{width:04},{height:04},R64,{layout:>6},01,2021-04-15 14:43:47,0.001,0,0,0,,MQ1A,"
    )
    return one_frame(f"{text}2021-04-15T13:43:47.008505401Z,1000000ns,{depth},", bytes.fromhex(pixels))


@pytest.fixture
def mib(tmp_path):
    return tmp_path / "scan.mib"


# Real files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REAL)
def test_real_files_have_the_pixels_that_other_programs_read(real_files, name):
    files = real_files("mib")
    expected = files.expected["files"][name]
    ds = emio.imload(files.path(name))
    assert list(ds.image.shape) == expected["shape"]
    assert str(ds.image.dtype) == expected["dtype"]
    assert "".join(ds.image.dims) == expected["axes"]
    assert hashlib.sha256(ds.image.values.tobytes()).hexdigest() == expected["sha256"]
    assert not set(ds.image.dims) & set(ds.coords)
    assert ds.acquisition["exposure_time"] == ds.acquisition["dwell_time"] == expected["exposure_time"]
    assert ds.acquisition["start_time"] == expected["start_time"]
    assert ds.acquisition["counter_depth"] == expected["counter_depth"]
    stored = emio.imload(files.path(name), flip=False, chunks=None)
    assert hashlib.sha256(stored.image.values.tobytes()).hexdigest() == expected["sha256_stored_row_order"]
    by_hdr = emio.imload(files.path(name.replace(".mib", ".hdr")), chunks=None)
    np.testing.assert_array_equal(by_hdr.image.values, ds.image.values)


def test_the_hot_pixel_lies_where_merlin_showed_it(real_files):
    name = real_files("mib").path("002_merlin_test_roi_sig256x128_nav4x2_hot_pixel_52x_39y.mib")
    total = emio.imload(name).image.sum(("y", "x")).values
    assert np.unravel_index(total.argmax(), total.shape) == (128 - 1 - 39, 52)


def test_each_frame_of_a_real_scan_has_its_time_exposure_and_number(real_files):
    ds = emio.imload(real_files("mib").path("001_4x2_6bit.mib"), nav_shape=(2, 4))
    assert ds.time.dims == ("y", "x")
    assert str(ds.time.values[0, 0]) == "2021-05-07T16:51:10.905800928"
    assert str(ds.time.values[1, 3]) == "2021-05-07T16:51:11.619821708"
    assert ds.exposure.values.tolist() == [[0.1] * 4] * 2
    assert ds.exposure.attrs["units"] == "s"
    assert ds.frame_number.values.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert ds.threshold.values.tolist() == [[40.0] * 4] * 2
    assert ds.metadata["fileheader"]["Chip ID"] == "W559_G11, - , - , -"
    assert ds.metadata["fileheader"]["Dead Time File"] == "Dummy (C:\\<NUL>\\)"
    assert ds.metadata["fileheader"]["frame_header"]["chip_type"] == "3RX"
    assert ds.acquisition["detector"] == "Merlin 3RX 1x1"
    json.dumps(ds.attrs)


def test_alternating_counters_of_a_real_series_are_no_channels(real_files):
    ds = emio.imload(real_files("mib").path("Single_9_Frame_CounterDepth_1_Rows_256.mib"))
    assert ds.metadata["fileheader"]["Active Counters"] == "Alternating"
    assert ds.image.dims == ("i", "y", "x")


def test_a_real_file_without_its_hdr_is_a_series(real_files, tmp_path):
    name = "002_merlin_test_roi_sig256x128_nav4x2_hot_pixel_52x_39y.mib"
    shutil.copy(real_files("mib").path(name), tmp_path)
    assert dict(emio.imload(tmp_path / name).image.sizes) == {"i": 8, "y": 128, "x": 256}


@pytest.mark.peers
@pytest.mark.parametrize("name", [n for n in REAL if "RAW" not in n])
def test_rosettasciio_reads_the_same(real_files, name):
    reader = pytest.importorskip("rsciio.quantumdetector")
    path = real_files("mib").path(name)
    theirs = np.asarray(reader.file_reader(path)[0]["data"])
    ours = emio.imload(path, chunks=None).image.values
    np.testing.assert_array_equal(ours.reshape(theirs.shape), theirs)


@pytest.mark.peers
@pytest.mark.parametrize(
    "options",
    [
        {"kind": "U16", "depth": 12},
        {"kind": "R64", "depth": 6},
        {"kind": "R64", "depth": 12},
        {"kind": "R64", "depth": 6, "layout": "2x2"},
        {"kind": "R64", "depth": 12, "layout": "2x2"},
    ],
)
def test_libertem_reads_the_same_in_stored_order(tmp_path, options):
    api = pytest.importorskip("libertem.api")
    shape = (512, 512) if options.get("layout") else (256, 256)
    path = write_mib(tmp_path / "scan.mib", frames(4, shape, bits=options["depth"]), **options)
    with api.Context.make_with("inline") as context:
        dataset = context.load("mib", path=str(path), nav_shape=(2, 2))
        theirs = context.run_udf(dataset, api_udf("pick"), roi=np.ones((2, 2), bool))["intensity"].data
    ours = emio.imload(path, nav_shape=(2, 2), flip=False, chunks=None).image.values
    np.testing.assert_array_equal(ours.reshape(4, *shape), np.asarray(theirs).reshape(4, *shape))


def api_udf(_):
    from libertem.udf.raw import PickUDF

    return PickUDF()


# Pixels --------------------------------------------------------------------------------------------------------------


def test_a_frame_worked_by_hand_is_read_with_its_last_stored_row_on_top(mib):
    text = "MQ1,000001,00384,01,0002,0002,U16,   1x1,01,2021-04-15 14:43:47.008505,0.001000,0,0,0,2.000000E+0"
    mib.write_bytes(one_frame(text, bytes.fromhex("0001 0002 0100 ffff")))
    assert emio.imload(mib).image.values.tolist() == [[256, 65535], [1, 2]]
    assert emio.imload(mib, flip=False).image.values.tolist() == [[1, 2], [256, 65535]]
    assert emio.imload(mib, flip="False").image.values.tolist() == [[1, 2], [256, 65535]]


@pytest.mark.parametrize(
    ("depth", "stored", "width", "expected"),
    [
        (6, "07 06 05 04 03 02 01 00", 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (12, "00 03 00 02 00 01 00 00", 4, [0, 1, 2, 3]),
        (12, "0F FF 00 00 00 00 01 02", 4, [258, 0, 0, 4095]),
        (1, "00 00 00 00 00 00 00 05", 64, [1, 0, 1] + [0] * 61),
        (1, "80 00 00 00 00 00 00 00", 64, [0] * 63 + [1]),
        (24, "00 00 00 00 00 02 00 01" + "00 00 0F FF 00 07 00 05", 8, [4101, 8199, 4095, 0]),
    ],
)
def test_raw_words_worked_by_hand(mib, depth, stored, width, expected):
    mib.write_bytes(raw(depth, stored, width=width))
    image = emio.imload(mib).image
    assert image.dtype == RAW_TYPES[depth]
    assert image.values.tolist() == [expected]


def test_the_first_line_of_the_fourth_chip_ends_up_in_the_last_row_backwards(mib):
    write_mib(mib, np.zeros((1, 512, 512), "u1"), kind="R64", depth=6, layout="2x2")
    with open(mib, "r+b") as file:
        file.seek(768)
        file.write(bytes([8, 7, 6, 5, 4, 3, 2, 1]))
    image = emio.imload(mib, flip=False).image.values
    assert image[511, 504:].tolist() == [8, 7, 6, 5, 4, 3, 2, 1]
    assert np.count_nonzero(image) == 8


@pytest.mark.parametrize("kind", ["U01", "U08", "U16", "U32", "U64"])
def test_unsigned_pixels_are_big_endian(mib, kind):
    dtype = {"U01": "u1", "U08": "u1", "U16": "u2", "U32": "u4", "U64": "u8"}[kind]
    stored = frames(5, dtype=dtype, bits=1 if kind == "U01" else None)
    ds = emio.imload(write_mib(mib, stored, kind=kind))
    assert ds.image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(ds.image.values, stored[:, ::-1])


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("depth", RAW_DEPTHS)
def test_raw_pixels_of_one_chip(mib, depth, flip):
    stored = frames(5, (6, 64), RAW_TYPES[depth], bits=depth)
    image = emio.imload(write_mib(mib, stored, kind="R64", depth=depth), flip=flip).image
    assert image.dtype == RAW_TYPES[depth]
    expected = stored[:, ::-1] if flip else stored
    np.testing.assert_array_equal(image.values, expected)
    np.testing.assert_array_equal(image[1:4, 2:5, 3:40:3].values, expected[1:4, 2:5, 3:40:3])


@pytest.mark.parametrize("layout", ["2x2", "2x2G"])
@pytest.mark.parametrize("depth", [1, 6, 12])
def test_raw_pixels_of_four_chips(mib, depth, layout):
    size = 514 if layout.endswith("G") else 512
    stored = frames(2, (size, size), RAW_TYPES[depth], bits=depth)
    if size == 514:
        stored[:, 256:258] = stored[:, :, 256:258] = 0
    write_mib(mib, stored, kind="R64", depth=depth, layout=layout)
    np.testing.assert_array_equal(emio.imload(mib).image.values, stored[:, ::-1])
    np.testing.assert_array_equal(emio.imload(mib, flip=False, chunks=None).image.values, stored)


@pytest.mark.parametrize(("layout", "shape"), [("2x2", (512, 512)), ("2x2G", (514, 514)), ("Nx1", (256, 1024))])
def test_chips_are_already_put_together_in_unsigned_formats(mib, layout, shape):
    stored = frames(2, shape, "u1")
    np.testing.assert_array_equal(
        emio.imload(write_mib(mib, stored, kind="U08", layout=layout)).image.values, stored[:, ::-1]
    )


def test_a_single_chip_may_call_its_layout_whatever_it_likes(mib):
    stored = frames(2, (4, 64), bits=12)
    write_mib(mib, stored, kind="R64", depth=12, layout="2x2", chips=1)
    np.testing.assert_array_equal(emio.imload(mib).image.values, stored[:, ::-1])


def test_rows_that_were_not_read_out_are_not_there(mib):
    for rows in (128, 1):
        stored = frames(2, (rows, 64), bits=12)
        write_mib(mib, stored, kind="R64", depth=12)
        np.testing.assert_array_equal(emio.imload(mib).image.values, stored[:, ::-1])


def test_sig_shape_cuts_the_stored_pixels_into_other_rows(mib):
    for options in ({}, {"kind": "R64", "depth": 12}):
        stored = frames(3, (4, 16), bits=12)
        write_mib(mib, stored, **options)
        image = emio.imload(mib, sig_shape=(32, 2), flip=False).image
        np.testing.assert_array_equal(image.values, stored.reshape(3, 32, 2))
        with pytest.raises(ArgumentError, match="does not hold the 64 pixels"):
            emio.imload(mib, sig_shape=(8, 9))


def test_sig_shape_of_a_raw_quad_is_refused(mib):
    write_mib(mib, np.zeros((1, 512, 512), "u1"), kind="R64", depth=6, layout="2x2")
    with pytest.raises(ArgumentError, match="sig_shape"):
        emio.imload(mib, sig_shape=(256, 1024))


@pytest.mark.parametrize("backend", ["mmap", "buffered", "direct", "memory"])
@pytest.mark.parametrize("depth", [1, 12])
def test_every_way_to_read_bytes_gives_the_same(mib, backend, depth):
    import fsspec

    stored = frames(9, (8, 64), RAW_TYPES[depth], bits=depth)
    write_mib(mib, stored, kind="R64", depth=depth)
    if backend == "memory":
        uri, options = "memory://mib/scan.mib", {}
        fsspec.filesystem("memory").pipe("/mib/scan.mib", mib.read_bytes())
    else:
        uri, options = mib, {"io_backend": backend}
    try:
        ds = emio.imload(uri, nav_shape=(3, 3), **options)
        np.testing.assert_array_equal(ds.image.values.reshape(9, 8, 64), stored[:, ::-1])
        assert ds.frame_number.values.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    except EmioError as error:
        if backend != "direct":
            raise
        pytest.skip(str(error))


def test_sources_pickle_and_compute_on_threads(mib):
    stored = frames(40, (16, 64), bits=12)
    write_mib(mib, stored, kind="R64", depth=12)
    source = pickle.loads(pickle.dumps(MibSource(mib, nav_shape=(5, 8))))
    image = pickle.loads(pickle.dumps(source.to_dask())).image.chunk({"y": 2})
    expected = stored.astype("u8").reshape(5, 8, 16, 64)[:, :, ::-1].sum((2, 3))
    np.testing.assert_array_equal(image.sum(("v", "u")).compute(scheduler="threads").values, expected)


def test_fused_reductions_agree_with_plain_ones(mib):
    for depth in RAW_DEPTHS:
        write_mib(mib, frames(12, (8, 64), RAW_TYPES[depth], bits=depth), kind="R64", depth=depth)
        image = emio.imload(mib, nav_shape=(3, 4)).image
        np.testing.assert_array_equal(image.emio.sum(("y", "x")).values, image.values.sum((0, 1), dtype="u8"))
        np.testing.assert_array_equal(image.emio.sum(("v", "u")).values, image.values.sum((2, 3), dtype="u8"))


# Decoders ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_words_are_decoded_into_arrays_of_any_strides(bits):
    decoder = ReversedWords(bits)
    stored = np.random.default_rng(1).integers(0, 256, (3, 4 * 64 * bits // 8), "u1")
    expected = np.empty((3, 4, 64), decoder.dtype)
    decoder.decode(stored, expected)
    targets = {
        "columns backwards": np.empty((3, 4, 64), decoder.dtype)[:, :, ::-1],
        "rows backwards": np.empty((3, 4, 64), decoder.dtype)[:, ::-1],
        "transposed": np.empty((64, 4, 3), decoder.dtype).T,
        "every other column": np.empty((3, 4, 128), decoder.dtype)[..., ::2],
    }
    for name, out in targets.items():
        decoder.decode(stored, out)
        np.testing.assert_array_equal(out, expected, err_msg=name)
    flat = np.empty((3, 16, 16), decoder.dtype)  # words of one bit go across rows
    decoder.decode(stored, flat)
    np.testing.assert_array_equal(flat.reshape(3, 4, 64), expected)


def test_decoders_say_how_many_bytes_are_stored():
    assert ReversedWords(1).stored_bytes((256, 256)) == 8192
    assert HighAndLow(ReversedWords(16), 12).stored_bytes((256, 256)) == 2 * 2 * 65536
    assert FourQuarters(ReversedWords(8), 2).stored_bytes((514, 514)) == 512 * 512


def texts(*lines):
    return np.array([list(line.encode().ljust(48, b"\0")) for line in lines], "u1")


def test_fields_of_text_are_read_whatever_their_width():
    lines = texts("A,1,2.5s,X,7", "A,10,3s,X,8", "A,100,  4,X,9", "A,7,1,X,10")
    whole, decimal, behind = np.empty(4, "i8"), np.empty(4), np.empty(4, "i8")
    TextField(48, 1, "i8").decode(lines, whole)
    TextField(48, 2, "f8").decode(lines, decimal)
    TextField(48, 1, "i8", after="X").decode(lines, behind)
    assert whole.tolist() == [1, 10, 100, 7]
    assert decimal.tolist() == [2.5, 3, 4, 1]
    assert behind.tolist() == [7, 8, 9, 10]


def test_text_that_is_no_value_is_nothing():
    lines = texts("A,1", "A,x", "A,", "A")
    expected = {"i8": [1, 0, 0, 0], "f8": [1.0, None, None, None]}
    for kind, values in expected.items():
        out = np.empty(4, kind)
        TextField(48, 1, kind).decode(lines, out)
        assert [None if v != v else v for v in out.tolist()] == values
    out = np.empty(2, "M8[ns]")
    TextField(48, 1, "M8[ns]").decode(texts("A,15/04/2018 12:30:00.123", "A,soon"), out)
    assert [str(t) for t in out] == ["2018-04-15T12:30:00.123000000", "NaT"]


# Headers of frames ---------------------------------------------------------------------------------------------------


DIALECTS = {
    "as Merlin writes": Dialect(),
    "numbers without zeros in front": Dialect(padded=False),
    "old raw files have no settings of chips": Dialect(chip_settings=False),
    "no last comma": Dialect(end=""),
    "blanks behind the depth": Dialect(end="   ,"),
    "capital in the unit": Dialect(unit="nS"),
    "day first": Dialect(day_first=True),
    "filled with blanks": Dialect(filler=b" "),
    "a newline at the end": Dialect(end=",\n"),
}


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_headers_are_read_in_every_spelling(mib, dialect):
    stored = frames(12, (4, 64), bits=12)
    write_mib(mib, stored, kind="R64", depth=12, dialect=dialect, exposure_s=0.002)
    ds = emio.imload(mib)
    np.testing.assert_array_equal(ds.image.values, stored[:, ::-1])
    assert ds.acquisition["exposure_time"] == 0.002
    assert ds.exposure.values.tolist() == [0.002] * 12
    assert ds.frame_number.values.tolist() == list(range(1, 13))
    assert str(ds.time.values[1]) == "2021-04-15T13:43:47.010505401"


@pytest.mark.parametrize(
    ("day_first", "start"), [(False, "2021-04-15T14:43:47.008505"), (True, "2021-04-15T14:43:47.008")]
)
def test_without_the_extension_times_are_local(mib, day_first, start):
    write_mib(mib, frames(3), dialect=Dialect(extension=False, day_first=day_first), exposure_s=0.25)
    ds = emio.imload(mib)
    assert ds.acquisition["start_time"] == start
    assert str(ds.time.values[0]).startswith(start)
    assert ds.time.attrs["long_name"] == "local time"
    assert ds.exposure.values.tolist() == [0.25] * 3
    assert "counter_depth" not in ds.acquisition


@pytest.mark.parametrize("size", [512, 640, 1000, 5000])
def test_the_header_is_as_long_as_it_says(mib, size):
    stored = frames(3)
    write_mib(mib, stored, header_bytes=size)
    np.testing.assert_array_equal(emio.imload(mib).image.values, stored[:, ::-1])


def test_pixels_that_look_like_text_are_no_header(mib):
    text = "MQ1,000001,00064,01,0032,0001,U08,   1x1,01,2021-04-15 14:43:47,"
    mib.write_bytes(one_frame(text, b",MQ1A,2021-04-15T00:00:00Z,5ns,9", 64))
    assert "counter_depth" not in emio.imload(mib).acquisition


def test_times_and_exposures_are_those_of_each_frame(mib):
    write_mib(mib, frames(4), exposure_s=[0.001, 0.01, 0.1, 1], times=[0, 1, 2.5, 7])
    ds = emio.imload(mib)
    assert ds.exposure.values.tolist() == [0.001, 0.01, 0.1, 1]
    seconds = (ds.time.values - ds.time.values[0]) / np.timedelta64(1, "s")
    assert seconds.tolist() == [0, 1, 2.5, 7]
    assert ds.exposure.chunks
    assert ds.threshold.attrs["units"] == "keV"


def test_facts_of_a_single_frame_are_scalars(mib):
    write_mib(mib, frames(1))
    for options in ({}, {"chunks": None}):
        ds = emio.imload(mib, **options)
        assert ds.image.dims == ("y", "x")
        assert (ds.exposure.dims, float(ds.exposure), int(ds.frame_number)) == ((), 0.001, 1)
    write_mib(mib, frames(4))
    assert int(emio.imload(mib, partition=2).frame_number) == 3


def test_legacy_files_of_2015_are_read(mib):
    for depth, dtype in ((12, "u2"), (24, "u4")):
        stored = frames(2, (256, 256), dtype, bits=depth)
        write_legacy_mib(mib, stored, depth=depth)
        ds = emio.imload(mib)
        np.testing.assert_array_equal(ds.image.values, stored[:, ::-1])
        assert ds.acquisition["exposure_time"] == 0.001
        assert ds.acquisition["start_time"] == "2015-08-11T17:55:11.682"
        assert ds.acquisition["thresholds"] == [27.0, 3.6]
        assert ds.exposure.values.tolist() == [0.001, 0.001]
        assert str(ds.time.values[1]) == "2015-08-11T17:55:11.683000000"


# Recognition ---------------------------------------------------------------------------------------------------------


def test_content_is_recognised_under_any_name(mib, tmp_path):
    write_mib(mib, frames(2))
    other = tmp_path / "frames.dat"
    shutil.copy(mib, other)
    assert detect(other).format == detect(mib).format == "mib"
    assert emio.imload(other).sizes["i"] == 2
    upper = tmp_path / "UPPER.MIB"
    shutil.copy(mib, upper)
    assert emio.imload(upper).sizes["i"] == 2


def test_only_hdr_files_of_merlin_are_taken(tmp_path):
    write_mib(tmp_path / "scan.mib", frames(2))
    write_hdr(tmp_path / "scan.HDR", frames=2)
    assert detect(tmp_path / "scan.HDR").format == "mib"
    envi = tmp_path / "other.hdr"
    envi.write_text("ENVI\nsamples = 4\n")
    with pytest.raises(UnknownFormatError):
        emio.imload(envi)


def test_an_envi_header_beside_the_frames_is_not_read(mib):
    write_mib(mib, frames(4))
    mib.with_suffix(".hdr").write_text("ENVI\nScanX:\t2\nScanY:\t2\n")
    assert emio.imload(mib).image.dims == ("i", "y", "x")


def test_a_dump_of_the_network_stream_is_refused_by_name(mib):
    body = write_mib(mib, frames(1)).read_bytes()
    mib.write_bytes(b"MPX,0000065921," + body)
    with pytest.raises(HeaderError, match="network"):
        emio.imload(mib)


# Files of a set ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["scan1.mib", "scan3.mib", "scan.hdr"])
def test_any_file_of_an_acquisition_stands_for_all(tmp_path, named):
    write_mib_series(tmp_path, "scan", numbered(12), per_file=5)
    write_hdr(tmp_path / "scan.hdr", scan=(3, 4), frames=12)
    ds = emio.imload(tmp_path / named)
    assert numbers(ds.image) == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    assert ds.frame_number.values.tolist() == numbers(ds.image)


def test_files_follow_each_other_by_number_and_not_by_name(tmp_path):
    write_mib_series(tmp_path, "a", numbered(12), per_file=1, extension=".MIB")
    assert numbers(emio.imload(tmp_path / "a10.MIB").image) == list(range(1, 13))


def test_the_first_number_need_not_be_one_and_glob_characters_are_letters(tmp_path):
    write_mib_series(tmp_path, "s[1]*_", numbered(6), per_file=2, first_number=100, digits=4)
    write_mib(tmp_path / "s1x_0001.mib", frames(3))
    write_hdr(tmp_path / "s[1]*.hdr", scan=(2, 3), frames=6)
    assert numbers(emio.imload(tmp_path / "s[1]*_0002.mib").image) == [[1, 2, 3], [4, 5, 6]]
    assert numbers(emio.imload(tmp_path / "s[1]*.hdr").image) == [[1, 2, 3], [4, 5, 6]]


def test_names_that_go_on_with_letters_are_other_acquisitions(tmp_path):
    write_mib(tmp_path / "x_256.mib", frames(2))
    write_mib(tmp_path / "x_256RAW.mib", frames(3, (4, 64), bits=12), kind="R64", depth=12)
    assert emio.imload(tmp_path / "x_256.mib").sizes["i"] == 2
    assert emio.imload(tmp_path / "x_256RAW.mib").sizes["i"] == 3


def test_one_file_alone_can_be_had(tmp_path):
    write_mib_series(tmp_path, "scan", numbered(6), per_file=2)
    assert numbers(emio.imload(tmp_path / "scan2.mib", disable_glob=True).image) == [3, 4]
    assert numbers(emio.imload(tmp_path / "scan2.mib", disable_glob="True").image) == [3, 4]


def test_files_of_the_same_numbers_are_separate_acquisitions(tmp_path):
    write_mib(tmp_path / "a1.mib", numbered(2))
    write_mib(tmp_path / "a2.mib", numbered(3, shape=(4, 4)))
    with pytest.warns(EmioWarning, match="disable_glob=True"):
        assert numbers(emio.imload(tmp_path / "a2.mib").image) == [1, 2, 3]
    write_hdr(tmp_path / "a.hdr")
    with pytest.raises(HeaderError, match=r"a1\.mib, a2\.mib"):
        emio.imload(tmp_path / "a.hdr")
    write_mib(tmp_path / "a.mib", numbered(4))
    with pytest.warns(EmioWarning, match="disable_glob"):
        assert numbers(emio.imload(tmp_path / "a.hdr").image) == [1, 2, 3, 4]
    assert numbers(emio.imload(tmp_path / "a.hdr", disable_glob=True).image) == [1, 2, 3, 4]


def test_a_missing_file_is_not_passed_over_in_silence(tmp_path):
    write_mib_series(tmp_path, "a", numbered(9), per_file=3)
    (tmp_path / "a2.mib").unlink()
    with pytest.raises(HeaderError, match=r"frames 4 to 6 are missing.*disable_glob=True"):
        emio.imload(tmp_path / "a1.mib")


def test_a_file_cut_short_in_the_middle_is_a_hole(tmp_path):
    files = write_mib_series(tmp_path, "a", numbered(9), per_file=3)
    files[1].write_bytes(files[1].read_bytes()[:-10])
    with pytest.raises(HeaderError, match="frames 6 to 6 are missing"):
        emio.imload(tmp_path / "a1.mib")
    files[1].write_bytes(b"")
    with pytest.raises(HeaderError, match="missing"), pytest.warns(EmioWarning, match="ignored"):
        emio.imload(tmp_path / "a1.mib")


@pytest.mark.parametrize(
    "options", [{"kind": "U32"}, {"header_bytes": 512}, {"kind": "R64", "depth": 12}], ids=["type", "header", "raw"]
)
def test_files_that_do_not_fit_together_are_refused(tmp_path, options):
    write_mib(tmp_path / "a1.mib", frames(3, (4, 16)))
    write_mib(tmp_path / "a2.mib", frames(3, (4, 16), bits=12), first_number=4, **options)
    with pytest.raises(HeaderError, match=r"a2\.mib.*disable_glob"):
        emio.imload(tmp_path / "a1.mib")


def test_a_stranger_among_the_files_is_named(tmp_path):
    write_mib(tmp_path / "a1.mib", frames(3))
    (tmp_path / "a2.mib").write_bytes(b"something else")
    with pytest.raises(HeaderError, match=r"a2\.mib.*disable_glob"):
        emio.imload(tmp_path / "a1.mib")
    assert emio.imload(tmp_path / "a1.mib", disable_glob=True).sizes["i"] == 3


def test_a_hdr_without_frames_is_refused(tmp_path):
    write_hdr(tmp_path / "a.hdr")
    with pytest.raises(MissingFileError, match=r"no \.mib"):
        emio.imload(tmp_path / "a.hdr")


@pytest.mark.parametrize("name", ["default1.hdr", "default.hdr", "DEFAULT.HDR"])
def test_the_hdr_of_a_file_has_its_name_with_or_without_number(tmp_path, name):
    write_mib(tmp_path / "default1.mib", frames(6))
    write_hdr(tmp_path / name, scan=(2, 3))
    assert emio.imload(tmp_path / "default1.mib").image.dims == ("y", "x", "v", "u")


def test_acquisitions_in_object_stores_are_found_whole(tmp_path):
    import fsspec

    write_mib_series(tmp_path, "scan", numbered(6), per_file=2)
    write_hdr(tmp_path / "scan.hdr", scan=(2, 3), frames=6)
    fsspec.filesystem("memory").put(str(tmp_path), "/whole", recursive=True)
    for name in ("scan2.mib", "scan.hdr"):
        ds = emio.imload(f"memory://whole/{name}")
        assert numbers(ds.image) == ds.frame_number.values.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_many_files_of_one_frame_are_read(tmp_path):
    write_mib_series(tmp_path, "f", numbered(1500, (1, 1)), per_file=1, header_bytes=384)
    ds = emio.imload(tmp_path / "f1.mib")
    assert numbers(ds.image) == ds.frame_number.values.tolist() == list(range(1, 1501))


# The scan ------------------------------------------------------------------------------------------------------------


def scan_of(path, count, nav_shape=None, line_skip=None, sync_offset=0, **hdr):
    write_mib(path, numbered(count))
    if hdr:
        write_hdr(path.with_suffix(".hdr"), **hdr)
    return emio.imload(path, nav_shape=nav_shape, line_skip=line_skip, sync_offset=sync_offset)


@pytest.mark.parametrize(
    ("count", "hdr", "shape"),
    [
        (6, {}, (6,)),
        (1, {}, ()),
        (6, {"scan": (2, 3), "frames": 6}, (2, 3)),
        (6, {"scan": (2, 3), "frames": 0}, (2, 3)),
        (6, {"frames": 6, "frames_per_trigger": 3}, (2, 3)),
        (6, {"frames": 6, "frames_per_trigger": 1}, (6,)),
        (6, {"frames": 6, "frames_per_trigger": 6}, (6,)),
        (6, {"frames": 0, "frames_per_trigger": 0}, (6,)),
        (6, {"scan": (0, 3), "frames": 6}, (6,)),
        (4, {"frames": 6}, (4,)),
        (8, {"scan": (2, 3), "frames": 6}, (2, 3)),
        (1, {"scan": (1, 1), "frames": 1}, (1, 1)),
    ],
)
def test_the_shape_of_the_scan_comes_from_the_hdr(mib, count, hdr, shape):
    image = scan_of(mib, count, **hdr).image
    assert image.shape[:-2] == shape
    assert image.dims == {0: ("y", "x"), 1: ("i", "y", "x"), 2: ("y", "x", "v", "u")}[len(shape)]
    assert np.ravel(numbers(image)).tolist() == list(range(1, np.prod(shape, dtype=int) + 1))


def test_an_interrupted_scan_is_blank_at_the_end(mib):
    with pytest.warns(EmioWarning, match="2 of 6"):
        ds = scan_of(mib, 4, scan=(2, 3), frames=6)
    assert numbers(ds.image) == [[1, 2, 3], [4, 0, 0]]
    assert np.isnat(ds.time.values).tolist() == [[False] * 3, [False, True, True]]


def test_a_cut_last_frame_is_ignored_with_a_warning(mib):
    write_mib(mib, numbered(3))
    mib.write_bytes(mib.read_bytes()[:-1])
    with pytest.warns(EmioWarning, match="last frame is incomplete"):
        assert numbers(emio.imload(mib).image) == [1, 2]


@pytest.mark.parametrize("asked", [10, 0])
def test_fly_back_frames_at_the_end_of_each_line_are_skipped(mib, asked):
    ds = scan_of(mib, 10, scan=(2, 3), frames=asked)
    assert numbers(ds.image) == [[1, 2, 3], [6, 7, 8]]
    assert ds.frame_number.values.tolist() == [[1, 2, 3], [6, 7, 8]]


def test_line_skip_says_how_many_frames_fly_back(mib):
    assert numbers(scan_of(mib, 10, scan=(2, 3), frames=10, line_skip=0).image) == [[1, 2, 3], [4, 5, 6]]
    assert numbers(scan_of(mib, 10, scan=(2, 3), frames=10, line_skip="1").image) == [[1, 2, 3], [5, 6, 7]]
    assert numbers(scan_of(mib, 10, nav_shape=(2, 4), line_skip=1).image) == [[1, 2, 3, 4], [6, 7, 8, 9]]
    assert numbers(scan_of(mib, 10, nav_shape=(2, 5), scan=(2, 3), frames=10).image) == [
        [1, 2, 3, 4, 5],
        [6, 7, 8, 9, 10],
    ]
    assert numbers(scan_of(mib, 10, nav_shape=(1, 3), scan=(2, 3), frames=10).image) == [[1, 2, 3]]
    with pytest.raises(ArgumentError, match="line_skip"):
        scan_of(mib, 10, line_skip=-1)


def test_frames_that_are_missing_with_fly_back_are_counted(mib):
    with pytest.warns(EmioWarning, match="2 of 6"):
        ds = scan_of(mib, 6, scan=(2, 3), frames=10)
    assert numbers(ds.image) == [[1, 2, 3], [6, 0, 0]]


def test_sync_offset_comes_before_lines_are_cut(mib):
    assert numbers(scan_of(mib, 11, scan=(2, 3), frames=10, sync_offset=1).image) == [[2, 3, 4], [7, 8, 9]]
    assert numbers(scan_of(mib, 6, scan=(2, 3), sync_offset=-2).image) == [[0, 0, 1], [2, 3, 4]]
    for far in (6, -6):
        with pytest.raises(ArgumentError, match="sync_offset"):
            scan_of(mib, 6, scan=(2, 3), sync_offset=far)


def test_nav_shape_wins(mib):
    assert scan_of(mib, 6, nav_shape=(6,), scan=(2, 3)).image.dims == ("i", "y", "x")
    assert scan_of(mib, 8, nav_shape=(2, 2, 2)).image.dims == ("i", "y", "x", "v", "u")
    assert scan_of(mib, 8, nav_shape="(2, 2, 2, 1)").image.dims == ("i", "t", "y", "x", "v", "u")
    with pytest.warns(EmioWarning, match="1 of 9"):
        scan_of(mib, 8, nav_shape=(3, 3))


def test_an_absurd_scan_is_refused(mib):
    with pytest.raises(HeaderError, match="pass nav_shape="):
        scan_of(mib, 6, scan=(100_000, 100_000), frames=6)
    assert scan_of(mib, 6, nav_shape=(2, 3), scan=(100_000, 100_000)).image.shape[:2] == (2, 3)


def test_broken_lines_of_the_hdr_are_passed_over(mib):
    lines = ["no tab and no colon", "", "Sensor Bias (V, µA)\t20 V", "ScanX:\t3", "ScanX:\t99", "Odd: a: b", "\t", ":"]
    write_mib(mib, numbered(6))
    for newline in ("\r\n", "\n"):
        for size in (2048, None):
            write_hdr(mib.with_suffix(".hdr"), lines=lines, entries={"ScanY": "   2"}, newline=newline, size=size)
            ds = emio.imload(mib)
            assert ds.image.shape[:2] == (2, 3)
            assert ds.metadata["fileheader"]["Sensor Bias (V, µA)"] == "20 V"
            assert ds.metadata["fileheader"]["Odd"] == "a: b"
    write_hdr(mib.with_suffix(".hdr"), scan=(2, 3), colon="")
    assert emio.imload(mib).image.shape[:2] == (2, 3)


# Channels ------------------------------------------------------------------------------------------------------------


BOTH = {"active_counters": "Counter 0, Counter 1"}


def test_two_counters_that_are_read_together_are_channels(mib):
    write_mib(mib, numbered(12), counters=[0, 1])
    write_hdr(mib.with_suffix(".hdr"), scan=(2, 3), frames=6, **BOTH)
    ds = emio.imload(mib)
    assert ds.image.dims == ("c", "y", "x", "v", "u")
    assert ds.c.values.tolist() == [0, 1]
    assert numbers(ds.image) == [[[1, 3, 5], [7, 9, 11]], [[2, 4, 6], [8, 10, 12]]]
    assert ds.frame_number.transpose("c", "y", "x").values.tolist() == numbers(ds.image)
    assert numbers(emio.imload(mib, sync_offset=1, nav_shape=(5,)).image.isel(c=1)) == [4, 6, 8, 10, 12]


@pytest.mark.parametrize(("count", "dims"), [(8, ("i", "c", "y", "x")), (4, ("c", "y", "x"))])
def test_colours_are_channels(mib, count, dims):
    write_mib(mib, numbered(count), counters=[0, 1, 2, 3], colour=True)
    image = emio.imload(mib).image
    assert image.dims == dims
    assert np.ravel(numbers(image)).tolist() == list(range(1, count + 1))
    assert image.c.values.tolist() == [0, 1, 2, 3]


def test_channels_with_fly_back(mib):
    write_mib(mib, numbered(16), counters=[0, 1])
    write_hdr(mib.with_suffix(".hdr"), scan=(2, 3), frames=8, **BOTH)
    assert numbers(emio.imload(mib).image.isel(c=0)) == [[1, 3, 5], [9, 11, 13]]


@pytest.mark.parametrize("together", [True, False])
def test_channels_go_on_across_files(tmp_path, together):
    number = np.arange(12) // (2 if together else 1) + 1
    fields = {"number": [f"{n:06}" for n in number]}
    write_mib_series(tmp_path, "a", numbered(12), per_file=4, counters=[0, 1], fields=fields)
    write_hdr(tmp_path / "a.hdr", scan=(2, 3), frames=6, **BOTH)
    assert numbers(emio.imload(tmp_path / "a1.mib").image.isel(c=0)) == [[1, 3, 5], [7, 9, 11]]


@pytest.mark.parametrize("active", ["Alternating", "Counter 0", "On Off"])
def test_counters_in_turn_are_no_channels(mib, active):
    write_mib(mib, numbered(6), counters=[0, 1])
    write_hdr(mib.with_suffix(".hdr"), active_counters=active, frames=6)
    assert emio.imload(mib).image.dims == ("i", "y", "x")


def test_channels_without_a_period_are_shown_as_frames(mib):
    write_mib(mib, numbered(6), counters=[0, 1, 0, 2, 1, 0], colour=True)
    with pytest.warns(EmioWarning, match="do not repeat"):
        assert emio.imload(mib).image.dims == ("i", "y", "x")


def test_an_incomplete_exposure_at_the_end_is_ignored(mib):
    write_mib(mib, numbered(7), counters=[0, 1, 2], colour=True)
    with pytest.warns(EmioWarning, match="only 1 of 3"):
        assert emio.imload(mib).sizes["i"] == 2


# Refused -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "F32"}, "pixel type 'F32'"),
        ({"kind": "U12"}, "pixel type 'U12'"),
        ({"width": "0000"}, "width"),
        ({"height": "0000"}, "height"),
        ({"width": "wide"}, "width"),
        ({"header_bytes": "00000"}, "bytes of the header"),
        ({"header_bytes": "some"}, "bytes of the header"),
        ({"header_bytes": "00010"}, "too few"),
        ({"number": "first"}, "number"),
        ({"number": "9" * 30}, "number"),
        ({"width": "9" * 18, "height": "9" * 18}, "not even one complete frame"),
        ({"header_bytes": "999999"}, "not even one complete frame"),
        ({"width": "0008"}, "not where it must be"),
        ({"kind": "R64", "depth": 7}, "it is 7"),
        ({"kind": "R64", "depth": "x"}, "missing"),
        ({"kind": "R64", "depth": 12, "chips": "04", "layout": "  4x1"}, "not known"),
        ({"kind": "R64", "depth": 12, "chips": "02", "layout": "  2x2"}, "not known"),
        ({"kind": "R64", "depth": 24, "chips": "04", "layout": "  2x2"}, "not known"),
        ({"kind": "R64", "depth": 12, "chips": "04", "layout": "  2x2"}, "not known"),
        ({"kind": "R64", "depth": 12, "width": "0003"}, "whole number of 64 bit words"),
        ({"kind": "R64", "depth": 24, "width": "0015"}, "even number"),
    ],
)
def test_headers_that_make_no_sense_are_refused(mib, fields, message):
    write_mib(mib, frames(3, (2, 16)), fields=fields)
    if fields == {"width": "0003"}:
        mib.write_bytes(mib.read_bytes()[: 384 + 12])
    with pytest.raises(HeaderError, match=message) as caught:
        emio.imload(mib)
    assert str(mib) in str(caught.value)


def test_raw_pixels_without_the_extension_are_refused(mib):
    write_mib(mib, frames(2, (2, 64), bits=12), kind="R64", depth=12, dialect=Dialect(extension=False))
    with pytest.raises(HeaderError, match="depth of the counter"):
        emio.imload(mib)


@pytest.mark.parametrize("content", [b"", b"MQ1", b"MQ1,", b"MQ1,000001,00384", b"\0" * 1000, b"text"])
def test_what_is_no_frame_is_refused(mib, content):
    mib.write_bytes(content)
    with pytest.raises(HeaderError, match=r"scan\.mib"):
        emio.imload(mib)


def test_a_header_in_the_wrong_place_at_the_end_is_refused(mib):
    body = write_mib(mib, frames(5)).read_bytes()
    mib.write_bytes(body[: 3 * 512] + b"\0" * 7 + body[3 * 512 : -7])
    with pytest.raises(HeaderError, match="frame 4 is not where it must be"):
        emio.imload(mib)


def test_a_file_that_became_shorter_is_an_error_and_no_crash(mib):
    write_mib(mib, frames(5))
    ds = emio.imload(mib)
    mib.write_bytes(mib.read_bytes()[:1000])
    with pytest.raises(TruncatedError):
        ds.image.values  # noqa: B018


def test_unknown_arguments_are_refused_and_the_known_ones_named(mib):
    write_mib(mib, frames(1))
    with pytest.raises(TypeError, match="disable_glob, flip, line_skip"):
        emio.imload(mib, upside_down=True)


def test_opening_reads_headers_only(tmp_path, monkeypatch):
    write_mib(tmp_path / "scan.mib", np.broadcast_to(np.uint16(1), (64, 64, 64)))
    from intake_emio.frames.storage import Storage

    monkeypatch.setattr(Storage, "fetch", lambda *_: pytest.fail("pixels were read"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = open_source(tmp_path / "scan.mib", nav_shape=(8, 8))
        assert source.to_dask().image.shape == (8, 8, 64, 64)
        assert source.diagnostics()["layout"]["stored"] == ">u2"
