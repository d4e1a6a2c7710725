"""`emio preview`: what is shown of which image, pictures and curves, samples of large files, refusals."""

import sys

import intake
import numpy as np
import pytest
import tifffile
import xarray as xr
from PIL import Image as Canvas
from typer.testing import CliRunner

import intake_emio as emio
from intake_emio.cli import app, lettering, main, overview
from intake_emio.cli.curves import Curve
from intake_emio.cli.lettering import round_length, ticks, written
from intake_emio.cli.overview import central_beam
from intake_emio.cli.pictures import Picture, save_page
from intake_emio.sets import open_any

from .encoders.blo import write_blo
from .encoders.npy import write_npy
from .encoders.raw import write_raw


def scan_with_beam(shape=(6, 8), size=32, centre=(14, 18), radius=4):
    """Patterns with a bright disk that is dimmer at some points, where more is scattered to the rim."""
    v, u = np.indices((size, size))
    disk = np.hypot(v - centre[0], u - centre[1]) <= radius
    rim = np.hypot(v - centre[0], u - centre[1]) > 10
    dim = np.zeros(shape, bool)
    dim[1:3, 2:5] = True
    patterns = np.where(dim[..., None, None], 20 * disk + 3 * rim, 100 * disk + rim).astype("u1")
    return patterns, disk, dim


def panels(path, **settings):
    """Return the panels of a file by their titles, and which part they show."""
    seen = overview.overview(open_any(path, **settings))
    return {panel.title: panel for panel in seen.panels}, seen.sample


def run(*arguments):
    return CliRunner().invoke(app, ["preview", *map(str, arguments)])


@pytest.fixture
def scan(tmp_path):
    return write_blo(tmp_path / "scan.blo", scan_with_beam()[0], steps=(2.5, 2.5), pixels_per_cm_x100=5000)


# What is shown -------------------------------------------------------------------------------------------------------


def test_of_a_scan_bright_field_dark_field_and_mean_pattern_are_shown(scan):
    patterns, disk, dim = scan_with_beam()
    shown, sample = panels(scan)
    bright, dark, mean = shown.values()
    assert list(shown) == ["virtual bright field", "virtual dark field", "mean pattern (logarithm)"]
    np.testing.assert_allclose(bright.pixels, (patterns * disk).sum((2, 3)))
    assert (dark.pixels[dim] > dark.pixels[~dim].max()).all()
    np.testing.assert_allclose(mean.pixels, patterns.mean((0, 1)))
    assert (bright.steps, bright.units) == ((2.5, 2.5), "nm")
    assert (mean.steps, mean.units) == (pytest.approx((0.02, 0.02)), "cm")
    assert [(round(circle.row), round(circle.column)) for circle in mean.circles] == [(14, 18), (14, 18)]
    assert sample == ""


def test_detectors_are_found_whatever_the_order_of_the_axes(scan):
    patterns, disk, _ = scan_with_beam()
    shown, _ = panels(scan, output_axis_order="uvxy")
    np.testing.assert_allclose(shown["virtual bright field"].pixels, (patterns * disk).sum((2, 3)))


def test_of_a_line_scan_of_patterns_curves_are_shown(scan):
    patterns, disk, _ = scan_with_beam()
    shown, _ = panels(scan, partition={"y": 2})
    curve = shown["virtual bright field"]
    np.testing.assert_allclose(curve.y, (patterns[2] * disk).sum((1, 2)))
    np.testing.assert_allclose(curve.x, 2.5 * np.arange(8))
    assert curve.x_label == "x (nm)"


def test_of_a_series_of_scans_the_middle_one_is_shown_and_said_so(tmp_path):
    patterns, disk, _ = scan_with_beam((2, 3))
    series = np.stack([patterns * 0, patterns, patterns * 0]).astype("u1")
    shown, sample = panels(write_npy(tmp_path / "series.npy", series))
    np.testing.assert_allclose(shown["virtual bright field"].pixels, (patterns * disk).sum((2, 3)))
    assert sample == "only i = 1"


def test_of_a_stack_the_middle_and_the_mean_frame_are_shown(tmp_path):
    stack = np.arange(5 * 6 * 7, dtype="u2").reshape(5, 6, 7) ** 2
    shown, _ = panels(write_npy(tmp_path / "stack.npy", stack))
    assert list(shown) == ["i = 2", "mean over i"]
    np.testing.assert_array_equal(shown["i = 2"].pixels, stack[2])
    np.testing.assert_allclose(shown["mean over i"].pixels, stack.mean(0))


def test_of_a_single_image_the_image_is_shown(tmp_path):
    image = np.random.default_rng(1).normal(size=(20, 30)).astype("f4")
    shown, _ = panels(write_npy(tmp_path / "image.npy", image))
    np.testing.assert_array_equal(shown["image"].pixels, image)


def test_of_patterns_the_logarithm_is_shown(tmp_path):
    path = write_npy(tmp_path / "pattern.npy", np.ones((8, 8), "u2"))
    metadata = {"spacing": {"y": 0.1, "x": 0.1}, "spacing_units": {"y": "1/nm", "x": "1/nm"}}
    shown, _ = panels(path, metadata=metadata)
    assert shown["image (logarithm)"].logarithmic


def test_of_complex_values_the_modulus_is_shown_and_truth_values_are_numbers(tmp_path):
    wave, _ = panels(write_npy(tmp_path / "wave.npy", np.array([[3 + 4j, 0], [1j, 1]], "c8")))
    np.testing.assert_allclose(wave["modulus"].pixels, [[5, 0], [1, 1]])
    mask, _ = panels(write_npy(tmp_path / "mask.npy", np.eye(3, dtype=bool)))
    np.testing.assert_array_equal(mask["image"].pixels, np.eye(3))


def test_of_a_spectrum_the_curve_is_shown(tmp_path):
    counts = np.arange(50, dtype="f4") ** 2
    metadata = {"axes": "c", "spacing": {"c": 0.5}, "spacing_units": {"c": "eV"}}
    shown, _ = panels(write_npy(tmp_path / "spectrum.npy", counts), sig_dims=1, metadata=metadata)
    curve = shown["spectrum"]
    np.testing.assert_array_equal(curve.y, counts)
    np.testing.assert_allclose(curve.x, np.arange(50) / 2)
    assert curve.x_label == "c (eV)"


@pytest.mark.parametrize("axes", ["yxc", "cyx"])
def test_of_a_spectrum_image_the_map_and_the_mean_spectrum_are_shown(tmp_path, axes):
    cube = np.random.default_rng(2).integers(0, 99, (4, 5, 20)).astype("u2")
    stored = cube if axes == "yxc" else cube.transpose(2, 0, 1)
    shown, _ = panels(write_npy(tmp_path / "cube.npy", np.ascontiguousarray(stored)), metadata={"axes": axes})
    np.testing.assert_array_equal(shown["sum over c"].pixels, cube.sum(2))
    np.testing.assert_allclose(shown["mean over y, x"].y, cube.mean((0, 1)))


def test_colours_are_shown_in_colours_and_channels_side_by_side(tmp_path):
    colours = np.random.default_rng(3).integers(0, 255, (6, 7, 3)).astype("u1")
    tifffile.imwrite(tmp_path / "colours.tif", colours, photometric="rgb")
    shown, _ = panels(tmp_path / "colours.tif")
    np.testing.assert_array_equal(shown["in colours"].pixels, colours)
    path = write_npy(tmp_path / "channels.npy", colours.transpose(2, 0, 1))
    shown, _ = panels(path, metadata={"axes": "cyx", "coords": {"c": ["BF", "ADF", "EDS"]}})
    assert list(shown) == ["channel BF", "channel ADF", "channel EDS"]
    np.testing.assert_array_equal(shown["channel ADF"].pixels, colours[..., 1])


@pytest.mark.parametrize(
    ("format_name", "name"),
    [
        ("blo", "test1.blo"),
        ("dm", "3D/EELS_SI.dm4"),
        ("dm", "1D/test-EELS_spectrum.dm3"),
        ("mib", "Single_9_Frame_CounterDepth_12_Rows_256.mib"),
        ("ser", "old/16x16-line_profile_diagonal_10x1024_1.ser"),
        ("tvips", "test_tvips_2345_000.tvips"),
    ],
)
def test_real_files_are_drawn(real_files, tmp_path, format_name, name):
    picture = tmp_path / "real.png"
    result = run(real_files(format_name).path(name), "-o", picture)
    assert (result.exit_code, result.stdout) == (0, f"{picture}\n"), result.output
    with Canvas.open(picture) as page:
        grey = np.asarray(page.convert("L"))
    assert 400 < grey.shape[0] < 800
    assert grey.std() > 5


def test_the_beam_is_the_brightest_disk_and_no_hot_pixel():
    v, u = np.indices((64, 48))
    pattern = np.random.default_rng(4).poisson(3, (64, 48)) + 200.0 * (np.hypot(v - 40, u - 11) <= 6)
    pattern[5, 5] = 1e6
    row, column, radius = central_beam(pattern)
    assert (row, column) == (pytest.approx(40, abs=0.5), pytest.approx(11, abs=0.5))
    assert 6 <= radius <= 8


@pytest.mark.parametrize("pattern", [np.zeros((9, 9)), np.full((9, 9), np.nan), np.ones((1, 1)), np.ones((5, 300))])
def test_without_a_beam_the_middle_of_the_detector_is_taken(pattern):
    row, column, radius = central_beam(pattern)
    assert (row, column) == ((pattern.shape[0] - 1) / 2, (pattern.shape[1] - 1) / 2)
    assert radius > 0


# Samples of large files ----------------------------------------------------------------------------------------------


def test_of_a_large_scan_every_nth_point_is_read_and_said_so(scan, monkeypatch):
    patterns, disk, _ = scan_with_beam()
    monkeypatch.setattr(overview, "MOST_BYTES", patterns.nbytes // 4)
    shown, sample = panels(scan)
    assert sample == "a sample: every 2nd along y and x"
    np.testing.assert_allclose(shown["virtual bright field"].pixels, (patterns[::2, ::2] * disk).sum((2, 3)))
    assert shown["virtual bright field"].steps == (5, 5)


def test_of_a_long_stack_the_mean_is_that_of_a_sample(tmp_path, monkeypatch):
    stack = np.random.default_rng(5).integers(0, 9, (40, 4, 4)).astype("u1")
    monkeypatch.setattr(overview, "MOST_BYTES", stack.nbytes // 10)
    shown, sample = panels(write_npy(tmp_path / "stack.npy", stack))
    np.testing.assert_array_equal(shown["i = 20"].pixels, stack[20])
    np.testing.assert_allclose(shown["mean over i"].pixels, stack[::10].mean(0))
    assert sample == "a sample: every 10th along i"


def test_of_a_large_frame_every_nth_pixel_is_held(tmp_path, monkeypatch):
    stack = np.random.default_rng(6).integers(0, 9, (3, 12, 12)).astype("u2")
    monkeypatch.setattr(overview, "MOST_PIXELS", 16)
    shown, sample = panels(write_npy(tmp_path / "stack.npy", stack))
    np.testing.assert_array_equal(shown["i = 1"].pixels, stack[1, ::3, ::3])
    np.testing.assert_allclose(shown["mean over i"].pixels, stack[:, ::3, ::3].mean(0))
    assert sample == "a sample: every 3rd along y and x"


def test_of_a_large_spectrum_image_the_points_are_thinned_and_not_the_spectra(tmp_path, monkeypatch):
    cube = np.random.default_rng(7).integers(0, 9, (6, 6, 30)).astype("u1")
    monkeypatch.setattr(overview, "MOST_BYTES", cube.nbytes // 9)
    shown, _ = panels(write_npy(tmp_path / "cube.npy", cube), metadata={"axes": "yxc"})
    np.testing.assert_allclose(shown["mean over y, x"].y, cube[::3, ::3].mean((0, 1)))


def test_only_what_is_shown_is_read(tmp_path, monkeypatch):
    from intake_emio.frames.storage import Storage

    path = tmp_path / "long.raw"
    with open(path, "wb") as file:
        file.truncate(100_000 * 64 * 64 * 2)  # 0.8 GB, of which nothing is stored
    monkeypatch.setattr(overview, "MOST_BYTES", 4 << 20)
    fetched = []
    fetch = Storage.fetch
    monkeypatch.setattr(
        Storage, "fetch", lambda self, ranges: fetched.extend(b - a for _, a, b in ranges) or fetch(self, ranges)
    )
    panels(path, dtype="u2", sig_shape=(64, 64), io_backend="buffered")
    assert sum(fetched) < 10 << 20


# Pictures ------------------------------------------------------------------------------------------------------------


def test_pixels_are_squares_and_dark_ones_are_black():
    drawn = np.asarray(Picture(np.array([[0, 10], [20, 30]]), "").draw())
    assert drawn.shape == (440, 440, 3)
    quarters = [drawn[at, across].tolist() for at in (110, 330) for across in (110, 330)]
    assert quarters[0] == [0, 0, 0]
    assert quarters[3] == [255, 255, 255]
    assert 70 < quarters[1][0] < 100 < 160 < quarters[2][0] < 185


@pytest.mark.parametrize(
    ("shape", "steps", "width", "height"),
    [
        ((100, 100), None, 440, 440),
        ((100, 50), None, 220, 440),
        ((50, 100), None, 600, 300),
        ((100, 100), (1.0, 0.5), 220, 440),
        ((10, 40), (2.0, 1.0), 600, 300),
        ((4000, 3000), None, 330, 440),
        ((500, 1), None, 24, 440),
    ],
)
def test_the_aspect_is_that_of_the_sample(shape, steps, width, height):
    assert Picture(np.zeros(shape), "", steps=steps).draw().size == (width, height)


@pytest.mark.parametrize(
    ("pixels", "step", "units", "bar"),
    [
        (100, 1.0, "nm", 20 * 4.4),
        (64, 2.5, "nm", 20 / 2.5 * 440 / 64),
        (100, 3.4e-6, "m", 50 / 3.4 * 4.4),
        (100, -0.1, "1/nm", 20 * 4.4),
    ],
)
def test_the_scale_bar_has_a_round_length(pixels, step, units, bar):
    drawn = np.asarray(Picture(np.zeros((pixels, pixels)), "", steps=(abs(step), abs(step)), units=units).draw())
    white = (drawn > 250).all(axis=2)
    assert white[440 - 54 + 31 : 440 - 54 + 36].sum(axis=1).max() == pytest.approx(bar, abs=2)


def test_lengths_are_given_in_units_that_read_well(monkeypatch):
    from intake_emio.cli import pictures

    said = []
    monkeypatch.setattr(pictures, "fitted", lambda text, *_: said.append(text) or text)
    for step, units in ((2e-9, "m"), (3.4e-6, "m"), (0.0017, "µm"), (0.1, "1/nm"), (0.4, "Å"), (0.02, "cm")):
        Picture(np.zeros((100, 100)), "", steps=(step, step), units=units).draw()
    assert said == ["50 nm", "50 µm", "20 nm", "2 nm⁻¹", "10 Å", "0.5 cm"]


def test_without_calibration_there_is_no_scale_bar():
    assert not np.asarray(Picture(np.zeros((50, 50)), "").draw())[10:-10, 10:-10].std()


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((5, 5), np.nan),
        np.full((5, 5), np.inf),
        np.array([[np.nan, 1.0], [np.inf, 2.0]]),
        np.zeros((3, 3), "u8"),
        np.array([[0, 2**63]], "u8"),
        np.eye(300, dtype="f4") * 1e30,
        np.zeros((1, 1)),
    ],
)
@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.filterwarnings("error")
def test_odd_values_can_be_drawn(pixels, logarithmic):
    assert Picture(pixels, "", logarithmic=logarithmic).draw().height > 0


def test_one_bright_pixel_among_a_thousand_does_not_make_the_others_black():
    pixels = np.random.default_rng(8).uniform(0, 1, (40, 40))
    pixels[3, 3] = 1e6
    assert np.asarray(Picture(pixels, "").draw()).std() > 50


def test_the_page_is_as_large_as_its_panels_and_its_texts_stay_inside(tmp_path):
    path = tmp_path / "page.png"
    long = "a_very_long_name_of_a_file_that_nobody_wanted_to_type_twice_" * 3
    save_page([Picture(np.eye(9), long, long)], str(path), heading=long, facts=f"{long}, {long}", warning=long)
    with Canvas.open(path) as page:
        assert page.format == "PNG"
        assert page.width == 440 + 2 * 28
        rim = np.asarray(page.convert("L"))[:, -20:]
    assert (rim == 255).all()


# Curves --------------------------------------------------------------------------------------------------------------


def blue(curve):
    """Where the line of a curve is, as (rows, columns)."""
    pixels = np.asarray(curve.draw()).astype(int)
    return np.nonzero(pixels[..., 2] - pixels[..., 0] > 40)


def test_a_rising_line_rises_from_left_to_right():
    rows, columns = blue(Curve(np.arange(100.0), np.arange(100.0), ""))
    left, right = columns < columns.min() + 20, columns > columns.max() - 20
    assert rows[left].min() > rows[right].max()
    assert columns.max() - columns.min() > 500


def test_a_narrow_peak_among_a_million_points_is_seen():
    values = np.zeros(1_000_000)
    values[300_000] = 1
    rows, columns = blue(Curve(np.arange(values.size), values, ""))
    peak = columns[rows.argmin()]
    assert (peak - columns.min()) / (columns.max() - columns.min()) == pytest.approx(0.3, abs=0.01)
    assert rows.max() - rows.min() > 300


@pytest.mark.parametrize(
    ("x", "y"),
    [([0], [5]), ([1, 2], [3, 3]), ([0, 1, 2], [np.nan] * 3), ([], []), ([3, 2, 1], [1, 2, 3]), ([0, 1], [0, 1e300])],
)
@pytest.mark.filterwarnings("error")
def test_odd_curves_can_be_drawn(x, y):
    assert Curve(np.array(x, "f8"), np.array(y, "f8"), "", x_label="c (eV)").draw().height == 440


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (-1, 1, [-1, -0.5, 0, 0.5, 1]), (301, 2348, [500, 1000, 1500, 2000])],
)
def test_ticks_are_round_numbers(low, high, expected):
    assert ticks(low, high, 5) == expected


@pytest.mark.parametrize(("length", "expected"), [(1, 1), (9.99, 5), (0.0234, 0.02), (4.9e6, 2e6), (1000, 1000)])
def test_round_lengths_are_1_2_or_5(length, expected):
    assert round_length(length) == pytest.approx(expected)


# Lettering -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_fonts(monkeypatch):
    """A system without fonts, and without matplotlib."""
    lettering.font.cache_clear()
    lettering._has.cache_clear()
    monkeypatch.setattr(lettering, "FONTS", ("none.ttf",))
    monkeypatch.setattr(lettering.importlib.util, "find_spec", lambda name: None)
    yield
    lettering.font.cache_clear()
    lettering._has.cache_clear()


def test_without_fonts_units_are_spelled_in_letters_that_are_there(no_fonts):
    assert written("5 µm × 3 Å, 2 nm⁻¹", 16) == "5 um x 3 A, 2 nm-1"
    assert Picture(np.zeros((100, 100)), "", steps=(1, 1), units="µm").draw().size == (440, 440)


def test_letters_that_a_font_has_are_written():
    assert written("scan 3 nm", 16) == "scan 3 nm"


# The command ---------------------------------------------------------------------------------------------------------


def test_the_picture_is_named_after_the_file_and_lies_in_this_folder(scan, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = run(scan)
    assert result.stdout == f"{tmp_path}/here/scan.preview.png\n"
    assert result.stderr == ""
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["scan.preview.png"]


def test_what_is_there_is_replaced_only_when_told_so(scan, tmp_path):
    picture = tmp_path / "scan.png"
    picture.write_bytes(b"precious")
    result = run(scan, "-o", picture)
    assert isinstance(result.exception, FileExistsError)
    assert "--overwrite" in str(result.exception)
    assert picture.read_bytes() == b"precious"
    assert run(scan, "-o", picture, "--overwrite").exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_failure_leaves_the_old_picture(scan, tmp_path, monkeypatch):
    picture = tmp_path / "scan.png"
    picture.write_bytes(b"precious")
    monkeypatch.setattr("intake_emio.cli.pictures.Canvas.Image.save", lambda *_, **__: 1 / 0)
    assert isinstance(run(scan, "-o", picture, "--overwrite").exception, ZeroDivisionError)
    assert picture.read_bytes() == b"precious"
    assert {path.name for path in tmp_path.iterdir()} == {"scan.blo", "scan.png"}


def test_arguments_of_the_reader_and_the_format_can_be_given(tmp_path):
    path = write_raw(tmp_path / "frames.bin", np.arange(12 * 25, dtype="u1").reshape(12, 5, 5))
    settings = ["-s", "dtype=uint8", "--set", "sig_shape=5,5", "-s", "partition=0:4", "--format", "raw"]
    assert run(path, *settings, "-o", tmp_path / "frames.png").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["none.blo"], 1, "none.blo"),
        (["scan.blo", "-o", "scan.jpg"], 1, ".png"),
        (["scan.blo", "-s", "gamma=2"], 1, "'gamma'"),
        (["scan.blo", "-o", "none/scan.png"], 1, "none"),
        (["scan.blo", "--format", "ser"], 1, "scan.blo"),
        ([], 2, "--help"),
        (["scan.blo", "-s", "gamma"], 2, "NAME=VALUE"),
    ],
)
def test_refusals_are_exit_code_1_and_wrong_command_lines_2(scan, monkeypatch, capsys, arguments, code, says):
    monkeypatch.chdir(scan.parent)
    monkeypatch.setattr(sys, "argv", ["emio", "preview", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    assert (1 if isinstance(caught.value.code, str) else caught.value.code) == code
    assert says in f"{caught.value.code}{said.err}"
    assert said.out == ""
    assert not list(scan.parent.glob("*.png"))


def test_an_interruption_is_exit_code_130(scan, monkeypatch, capsys):
    def interrupted(source):
        raise KeyboardInterrupt

    monkeypatch.setattr(overview, "overview", interrupted)
    monkeypatch.setattr(sys, "argv", ["emio", "preview", str(scan)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130
    assert "Traceback" not in capsys.readouterr().err


def test_matplotlib_is_not_needed(scan, tmp_path, monkeypatch, no_fonts):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(scan, "-o", tmp_path / "scan.png").exit_code == 0


def test_a_file_on_a_server_is_drawn(scan, tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/scan.blo", scan.read_bytes())
    try:
        assert run("memory://bucket/scan.blo", "-o", tmp_path / "remote.png").exit_code == 0
    finally:
        memory.rm("/bucket", recursive=True)


def test_a_source_of_a_catalog_is_drawn_as_the_file_is(scan):
    drawn = overview.overview(intake.open_emio(scan)).panels
    assert [panel.title for panel in drawn] == list(panels(scan)[0])
    xr.testing.assert_equal(emio.imload(scan), emio.imload(intake.open_emio(scan)))
