"""Movies of Direct Electron cameras: scans, positions, films, and the images beside them."""

import shutil

import numpy as np
import pytest

import intake_emio as emio
from intake_emio.detection import open_source
from intake_emio.errors import ArgumentError, EmioWarning, HeaderError, MissingFileError, TruncatedError

from .encoders.mrc import IMOD_STAMP, raster, write_info, write_mrc

PREFIX = "20241021_00405"
POINTS = {"Scan - Type": "XY File"}
FILM = {"Scan - Enable": "Disable"}


def frames(count, rows=2, columns=3, dtype="u2"):
    """Frames of which each has its number in the first pixel."""
    pixels = np.random.default_rng(7).integers(0, 100, (count, rows, columns)).astype(dtype)
    pixels[:, 0, 0] = np.arange(count)
    return pixels


def numbers(ds):
    """Which frame each point shows."""
    return ds.image[..., 0, 0].values.tolist()


@pytest.fixture
def movie(tmp_path):
    """Make a movie with the files beside it; returns its name."""

    def make(pixels, info=None, positions=None, prefix=PREFIX, **header):
        if info is not None:
            write_info(tmp_path / f"{prefix}_info.txt", info)
        if positions is not None:
            lines = "".join(f"{x},{y}\n" for x, y in positions)
            (tmp_path / f"{prefix}_scan_coordinates.csv").write_text(lines)
        return write_mrc(tmp_path / f"{prefix}_movie.mrc", pixels, **{"ispg": 1, "step": (-10, -10, 1), **header})

    return make


# Rasters -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [PREFIX, f"{PREFIX}_gold", "my scan [1]"])
def test_the_info_file_beside_a_movie_tells_its_scan(movie, prefix):
    pixels = frames(6)
    ds = emio.imload(movie(pixels, raster(2, 3), prefix=prefix))
    assert dict(ds.image.sizes) == {"y": 2, "x": 3, "v": 2, "u": 3}
    np.testing.assert_array_equal(ds.image.values.reshape(6, 2, 3), pixels)
    assert ds.metadata["spacing"] == {"y": 0.25, "x": 0.5, "v": 0.01, "u": 0.02}
    assert ds.metadata["spacing_units"] == {"y": "nm", "x": "nm", "v": "1/nm", "u": "1/nm"}
    assert ds.metadata["fileheader"]["info"]["Scan - Type"] == "Raster"


def test_axes_get_the_users_names_and_keep_their_calibration(movie):
    ds = emio.imload(movie(frames(6), raster(2, 3)), metadata={"axes": "abkl"})
    assert ds.metadata["spacing"] == {"a": 0.25, "b": 0.5, "k": 0.01, "l": 0.02}


def test_the_region_of_interest_is_what_was_scanned(movie):
    info = raster(8, 9, {"Scan - ROI Enable": "Enable", "Scan - ROI Size X": 3, "Scan - ROI Size Y": 2})
    assert emio.imload(movie(frames(6), info)).image.shape == (2, 3, 2, 3)


def test_repeated_scans_have_an_axis_in_front(movie):
    ds = emio.imload(movie(frames(12), raster(2, 3, {"Scan - Repeats": 2})))
    assert dict(ds.image.sizes) == {"i": 2, "y": 2, "x": 3, "v": 2, "u": 3}
    assert numbers(ds)[1] == [[6, 7, 8], [9, 10, 11]]
    assert emio.imload(movie(frames(12), raster(2, 3, {"Scan - Repeats": 5}))).image.shape == (2, 3, 2, 3)


@pytest.mark.parametrize("cut", [0, 12, 20])
def test_a_stopped_scan_is_blank_where_nothing_was_recorded(movie, cut):
    written = 5 - -(-cut // 12)
    with pytest.warns(EmioWarning, match=f"{6 - written} of 6"):
        ds = emio.imload(movie(frames(5) + 1, raster(2, 3), cut=cut))
    shown = np.arange(6) + 1
    shown[written:] = 0
    assert numbers(ds) == shown.reshape(2, 3).tolist()


def test_frames_behind_the_scan_are_left_out(movie):
    assert numbers(emio.imload(movie(frames(9), raster(2, 3)))) == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("changes", "axes"),
    [
        ({"Instrument Project TEMorSTEM Mode": 1}, "yxvu"),
        ({"Instrument Project TEMorSTEM Mode": 0}, "tyx"),
        ({"Scan - Enable": "Disable"}, "tyx"),
        ({"Instrument Project TEMorSTEM Mode": 1, "Scan - Enable": "Disable"}, "tyx"),
    ],
)
def test_a_movie_is_a_scan_if_the_microscope_scanned(movie, changes, axes):
    assert "".join(emio.imload(movie(frames(6), raster(2, 3, changes))).image.dims) == axes


@pytest.mark.parametrize("size", ["", "many", 0, -1, 2.5, 10**9])
def test_a_scan_without_a_size_is_refused(movie, size):
    path = movie(frames(6), raster(2, 3, {"Scan - Size X": size}))
    with pytest.raises(HeaderError, match="nav_shape"):
        emio.imload(path)
    assert emio.imload(path, nav_shape=(2, 3)).image.dims == ("y", "x", "v", "u")
    assert emio.imload(path, metadata_file=None).image.dims == ("i", "y", "x")


def test_a_scan_that_is_far_too_large_is_refused(movie):
    with pytest.raises(HeaderError, match="would need"):
        emio.imload(movie(frames(6), raster(10**6, 10**6)))


def test_lines_of_info_files_may_be_odd(movie, tmp_path):
    path = movie(frames(6))
    text = (
        "Note = a = b\r\nno equals sign\r\nEmpty =\r\nScan - Enable=Enable\r\nScan - Size X =3\r\nScan - Size Y= 2\r\n"
    )
    (tmp_path / f"{PREFIX}_info.txt").write_bytes(text.encode() + b"Caf\xe9 = 1\n")
    ds = emio.imload(path)
    assert ds.image.shape == (2, 3, 2, 3)
    assert ds.metadata["fileheader"]["info"]["Note"] == "a = b"
    assert ds.metadata["fileheader"]["info"]["Empty"] == ""


def test_users_know_better(movie):
    path = movie(frames(6), raster(2, 3))
    ds = emio.imload(path, nav_shape=(3, 2))
    assert numbers(ds) == [[0, 1], [2, 3], [4, 5]]
    assert set(ds.metadata["spacing"]) == {"v", "u"}  # steps are those of another scan
    assert set(emio.imload(path, nav_shape=(2, 3)).metadata["spacing"]) == {"y", "x", "v", "u"}
    assert emio.imload(path, nav_shape=6).metadata["spacing"] == {"y": 0.01, "x": 0.02}
    assert numbers(emio.imload(path, sync_offset=2)) == [[2, 3, 4], [5, 0, 0]]
    assert emio.imload(path, sig_shape=(3, 2)).metadata["spacing"].keys() == {"y", "x"}


# Films ---------------------------------------------------------------------------------------------------------------


def test_a_film_has_its_time(movie):
    ds = emio.imload(movie(frames(6), raster(2, 3, {**FILM, "Instrument Project TEMorSTEM Mode": 0})))
    assert ds.metadata["spacing"] == {"t": 2 / 500, "y": 0.25, "x": 0.5}
    assert ds.metadata["spacing_units"] == {"t": "s", "y": "nm", "x": "nm"}


@pytest.mark.parametrize(
    "changes",
    [
        {"Instrument Project TEMorSTEM Mode": 1},
        {"Instrument Project TEMorSTEM Mode": 0, "Instrument Project Camera Length (centimeters)": 12},
    ],
)
def test_a_film_of_diffraction_patterns_has_reciprocal_lengths(movie, changes):
    ds = emio.imload(movie(frames(6), raster(2, 3, {**FILM, **changes})))
    assert ds.metadata["spacing"] == {"t": 0.004, "y": 0.01, "x": 0.02}
    assert ds.x.attrs["units"] == "1/nm"


def test_what_is_minus_one_is_not_known(movie):
    unknown = ["Specimen Pixel Size X (nanometers)", "Diffraction Pixel Size Y", "Frames Per Second"]
    ds = emio.imload(movie(frames(6), raster(2, 3, dict.fromkeys(unknown, -1))))
    assert set(ds.metadata["spacing"]) == {"y", "u"}


def test_circumstances_have_neutral_names(movie):
    info = raster(
        2,
        3,
        {
            "Camera Model": "Celeritas XS",
            "Instrument Project Magnification": 40000,
            "Instrument Accelerating Voltage (V)": 300000,
            "Instrument Project Camera Length (centimeters)": 12.5,
            "Exposure Time (seconds)": 0.5,
            "Timestamp (seconds since Epoch)": 1729539410,
            "ADUs Per Electron Bin1x": 48,
            "Scan - Dwell Time (microseconds)": 20,
        },
    )
    assert emio.imload(movie(frames(6), info)).acquisition == {
        "detector": "Celeritas XS",
        "beam_energy": 300,
        "camera_length": 125,
        "magnification": 40000,
        "exposure_time": 0.5,
        "dwell_time": 2e-5,
        "adus_per_electron": 48,
        "start_time": "2024-10-21T19:36:50+00:00",
    }


# What is a movie -----------------------------------------------------------------------------------------------------


def test_a_movie_without_info_is_a_stack_of_unsigned_bytes(movie):
    pixels = np.full((4, 2, 3), 200, "u1")
    ds = emio.imload(movie(pixels, mode=0))
    assert ds.image.dims == ("i", "y", "x")
    np.testing.assert_array_equal(ds.image, pixels)
    assert not ds.coords


def test_signs_that_are_stated_count_more_than_the_maker(movie):
    path = movie(np.full((4, 2, 3), 200, "u1"), mode=0, imodStamp=IMOD_STAMP, imodFlags=1)
    assert emio.imload(path).image.dtype == np.int8
    assert emio.imload(path, dtype="u1").image.dtype == np.uint8


def test_info_files_are_switched_off_and_chosen(movie, tmp_path):
    path = movie(frames(6), raster(2, 3))
    assert emio.imload(path, metadata_file=None).image.dims == ("i", "y", "x")
    other = write_info(tmp_path / "other.txt", raster(3, 2))
    for name in (other, "other.txt", f"file://{other}"):
        assert emio.imload(path, metadata_file=name).image.shape == (3, 2, 2, 3)
    with pytest.raises(MissingFileError, match=r"missing\.txt"):
        emio.imload(path, metadata_file="missing.txt")


def test_any_file_opened_with_an_info_file_is_a_movie(tmp_path):
    path = write_mrc(tmp_path / "renamed.mrc", np.full((6, 2, 3), 200, "u1"), mode=0, ispg=1)
    info = write_info(tmp_path / "notes.txt", raster(2, 3))
    assert emio.imload(path).image.dims == ("z", "y", "x")
    ds = emio.imload(path, metadata_file=info)
    assert ds.image.dims == ("y", "x", "v", "u")
    assert int(ds.image.max()) == 200


def test_numbered_movies_of_one_acquisition_share_the_files_beside_them(movie, tmp_path):
    movie(frames(6), raster(2, 3))
    path = tmp_path / f"{PREFIX}_0_movie.mrc"
    (tmp_path / f"{PREFIX}_movie.mrc").rename(path)
    write_mrc(tmp_path / f"{PREFIX}_0_HAADF_sum.mrc", np.ones((2, 3), "f4"))
    ds = emio.imload(path)
    assert ds.image.shape == (2, 3, 2, 3)
    assert ds.navigator.attrs["long_name"] == "HAADF"


def test_images_of_a_set_that_are_no_movies_are_images(movie, tmp_path):
    movie(frames(6), raster(2, 3))
    ds = emio.imload(write_mrc(tmp_path / f"{PREFIX}_final.mrc", np.ones((2, 3), "f4")))
    assert list(ds.data_vars) == ["image"]


# Positions -----------------------------------------------------------------------------------------------------------


def test_frames_go_to_their_positions(movie):
    ds = emio.imload(movie(frames(4) + 1, raster(9, 9, POINTS), [(2, 0), (0, 1), (1, 1), (0, 0)]))
    assert dict(ds.image.sizes) == {"y": 2, "x": 3, "v": 2, "u": 3}
    assert numbers(ds) == [[4, 0, 1], [2, 3, 0]]
    assert not ds.image.isel(y=0, x=1).any()
    assert ds.metadata["spacing"] == {"y": 0.25, "x": 0.5, "v": 0.01, "u": 0.02}


def test_positions_that_are_visited_again_have_an_axis_in_front(movie):
    ds = emio.imload(movie(frames(6) + 1, raster(9, 9, POINTS), [(1, 0), (0, 0), (1, 0), (1, 1), (1, 0), (0, 0)]))
    assert dict(ds.image.sizes) == {"i": 3, "y": 2, "x": 2, "v": 2, "u": 3}
    assert numbers(ds) == [[[2, 1], [0, 4]], [[6, 3], [0, 0]], [[0, 5], [0, 0]]]


def test_frames_without_a_position_are_left_out(movie):
    assert numbers(emio.imload(movie(frames(9) + 1, raster(9, 9, POINTS), [(1, 0), (0, 0)]))) == [[2, 1]]


@pytest.mark.parametrize("chunks", [None, "frame", "auto", {"y": 1}])
def test_positions_of_a_large_scan_are_read_in_any_way(movie, chunks):
    places = np.random.default_rng(5).permutation(20 * 30)[:400]
    pixels = frames(400)
    ds = emio.imload(movie(pixels, raster(9, 9, POINTS), [(p % 30, p // 30) for p in places]), chunks=chunks)
    expected = np.zeros((600, 2, 3), "u2")
    expected[places] = pixels
    shape = ds.image.shape[:2]
    np.testing.assert_array_equal(ds.image, expected.reshape(20, 30, 2, 3)[: shape[0], : shape[1]])


def test_positions_count_from_the_frame_that_sync_offset_says(movie):
    path = movie(frames(4) + 1, raster(9, 9, POINTS), [(0, 0), (1, 0), (2, 0)])
    assert numbers(emio.imload(path, sync_offset=1)) == [[2, 3, 4]]
    assert numbers(emio.imload(path, sync_offset=-2)) == [[0, 0, 1]]


def test_a_table_of_positions_may_be_chosen(movie, tmp_path):
    path = movie(frames(3), raster(2, 3), [(0, 0), (0, 1), (0, 2)])
    (tmp_path / "other.csv").write_text("1,0\n0,0\n")
    for name in ("other.csv", tmp_path / "other.csv"):
        assert numbers(emio.imload(path, scan_file=name)) == [[1, 0]]
    assert numbers(emio.imload(path, scan_file="other.csv", metadata_file=None)) == [[1, 0]]


def test_a_scan_that_needs_positions_is_refused_without_them(movie):
    path = movie(frames(6), raster(2, 3, POINTS))
    with pytest.raises(MissingFileError, match=r"XY File.*scan_file"):
        emio.imload(path)
    assert emio.imload(path, nav_shape=(2, 3)).image.shape == (2, 3, 2, 3)


@pytest.mark.parametrize(
    "table",
    [
        "",
        "x,y\n1,2\n",
        "1.5,2\n",
        "1\n",
        "1,2,3\n",
        "1,2\n3\n",
        "1,-1\n",
        "65536,0\n",
        "1;2\n",
        "9" * 30 + ",1\n",
        "1,\n",
    ],
)
def test_tables_that_are_no_positions_are_refused(movie, tmp_path, table):
    path = movie(frames(6), raster(2, 3, POINTS))
    (tmp_path / f"{PREFIX}_scan_coordinates.csv").write_text(table)
    with pytest.raises(HeaderError, match=r"scan_coordinates\.csv"):
        emio.imload(path)


def test_more_positions_than_frames_are_refused(movie):
    with pytest.raises(HeaderError, match=r"3 positions.*2 frames"):
        emio.imload(movie(frames(2), raster(2, 3, POINTS), [(0, 0), (1, 0), (2, 0)]))


def test_two_positions_at_the_ends_of_the_world_are_no_scan(movie):
    with pytest.raises(HeaderError, match="no scan"):
        emio.imload(movie(frames(2), raster(2, 3, POINTS), [(0, 0), (65535, 65535)]))


def test_a_cut_movie_of_single_positions_is_refused(movie):
    with pytest.raises(TruncatedError, match="1 complete"):
        emio.imload(movie(frames(2), raster(2, 3, POINTS), [(0, 0), (1, 0)], cut=1))


# Images beside -------------------------------------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path):
    """Write an image of a scan; returns its name."""

    def write(name, values, **header):
        return write_mrc(tmp_path / name, np.asarray(values, "f4"), **header)

    return write


ROWS = np.arange(6.0).reshape(2, 3)


def test_images_of_the_scan_are_named_after_what_is_in_their_names(movie, picture):
    path = movie(frames(6), raster(2, 3))
    for k, name in enumerate(["virt 0_BF_sum", "virt1_ADF_total_sum", "10_ADF_mean", "2_y_sum", "ext2", "ext1_Ext #1"]):
        picture(f"{PREFIX}_{name}.mrc", ROWS + 10 * k)
    ds = emio.imload(path)
    assert list(ds.data_vars) == ["image", "navigator", "ADF", "y_1", "ADF_1", "Ext #1", "ext2"]
    assert ds.navigator.attrs["long_name"] == "BF"
    assert [float(ds[name][1, 2]) for name in list(ds.data_vars)[1:]] == [5, 15, 35, 25, 55, 45]
    assert all(ds[name].dims == ("y", "x") and ds[name].chunks for name in list(ds.data_vars)[1:])


def test_images_of_another_shape_are_left_out(movie, picture):
    path = movie(frames(6), raster(2, 3))
    picture(f"{PREFIX}_0_BF_sum.mrc", ROWS.T)
    picture(f"{PREFIX}_1_Stack_sum.mrc", [ROWS, ROWS])
    picture(f"{PREFIX}_ext1.mrc", ROWS)
    assert list(emio.imload(path).data_vars) == ["image", "ext1"]


@pytest.mark.parametrize("how", [{"cut": 1}, {"mode": 99}])
def test_broken_images_are_left_out_with_a_warning(movie, picture, how):
    path = movie(frames(6), raster(2, 3))
    given = picture(f"{PREFIX}_0_BF_sum.mrc", ROWS, **how)
    with pytest.warns(EmioWarning, match="BF"):
        assert list(emio.imload(path).data_vars) == ["image"]
    with pytest.raises((TruncatedError, HeaderError), match="BF"):
        emio.imload(path, virtual_images=given.name)


def test_images_are_chosen_and_left_out(movie, picture, tmp_path):
    path = movie(frames(6), raster(2, 3))
    picture(f"{PREFIX}_0_BF_sum.mrc", ROWS)
    picture("mine.mrc", ROWS + 1)
    ds = emio.imload(path, virtual_images=[], external_images=["mine.mrc", str(tmp_path / "mine.mrc")])
    assert list(ds.data_vars) == ["image", "mine", "mine_1"]
    assert float(ds.mine[0, 0]) == 1
    ds = emio.imload(path, virtual_images="mine.mrc")
    assert ds.navigator.attrs["long_name"] == "mine"
    picture("mine.mrc", ROWS.T)
    with pytest.raises(ArgumentError, match=r"mine\.mrc"):
        emio.imload(path, virtual_images=["mine.mrc"])
    with pytest.raises(ArgumentError, match="scan"):
        emio.imload(path, virtual_images=["mine.mrc"], nav_shape=6)


def test_virtual_images_follow_the_frames_and_external_ones_the_scan(movie, picture):
    path = movie(frames(6), raster(2, 3))
    picture(f"{PREFIX}_0_BF_sum.mrc", ROWS)
    picture(f"{PREFIX}_ext1.mrc", ROWS)
    ds = emio.imload(path, sync_offset=1)
    assert ds.navigator.values.tolist() == [[1, 2, 3], [4, 5, 0]]
    assert ds.ext1.values.tolist() == ROWS.tolist()


def test_images_are_cut_with_the_scan(movie, picture):
    path = movie(frames(6), raster(2, 3))
    picture(f"{PREFIX}_0_BF_sum.mrc", ROWS)
    ds = emio.imload(path, partition={"y": 1, "x": [2, 0]})
    assert ds.navigator.values.tolist() == [5, 3]
    assert numbers(ds) == [5, 3]


def test_repeated_scans_have_one_image_of_each_kind(movie, picture):
    path = movie(frames(12), raster(2, 3, {"Scan - Repeats": 2}))
    picture(f"{PREFIX}_0_BF_sum.mrc", ROWS)
    assert emio.imload(path).navigator.dims == ("y", "x")


def test_catalogs_know_all_files_of_a_set(movie, picture, tmp_path):
    path = movie(frames(6), raster(2, 3, POINTS), [(k % 3, k // 3) for k in range(6)])
    picture(f"{PREFIX}_0_BF_sum.mrc", ROWS)
    shutil.copy(path, tmp_path / "unrelated.mrc")
    known = {name.rpartition("/")[2] for name in open_source(path).all_files}
    suffixes = ["movie.mrc", "info.txt", "scan_coordinates.csv", "0_BF_sum.mrc"]
    assert known == {f"{PREFIX}_{suffix}" for suffix in suffixes}
