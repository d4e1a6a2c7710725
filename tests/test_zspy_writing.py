"""ZSpy: images written as HyperSpy's signals in Zarr stores."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import dask
import dask.array as da
import fsspec
import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
from numpy.testing import assert_array_equal

import intake_emio as emio
from intake_emio.errors import (
    ArgumentError,
    ArgumentTypeError,
    EmioError,
    EmioWarning,
    HeaderError,
    TargetExistsError,
    UnknownArgumentError,
)
from intake_emio.formats._hyperspy_writing import encoded, signal_chunks
from intake_emio.formats.zspy import ZspySource, save

from .encoders.zspy import axis, navigation, write_ragged, write_tree, write_zspy

BLOSC = {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 1, "blocksize": 0}


def counts(*shape, dtype="u2"):
    return (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)


def labelled(axes, shape=None, dtype="u2", **coords):
    """Return an image with coordinates, given as values or as (values, units)."""
    data = counts(*(shape or range(2, 2 + len(axes))), dtype=dtype)
    image = xr.DataArray(data, dims=tuple(axes))
    for letter, given in coords.items():
        values, units = given if isinstance(given, tuple) else (given, None)
        image = image.assign_coords({letter: (letter, values, {"units": units} if units else {})})
    return image


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.zspy"


@pytest.fixture
def scan():
    image = labelled("yxvu", y=([0.0, 0.5], "nm"), x=([0.0, 0.25, 0.5], "nm"), u=([-0.2, -0.1, 0.0, 0.1, 0.2], "1/nm"))
    image.attrs = {"acquisition": {"beam_energy": 200.0, "title": "gold"}, "note": "by hand"}
    return image


def read_json(path, *names):
    return json.loads(path.joinpath(*names).read_text())


def experiment(path):
    (found,) = [p for p in (path / "Experiments").iterdir() if p.is_dir()]
    return found


def axes_in(path):
    folder = experiment(path)
    return [read_json(folder, f"axis-{k}", ".zattrs") for k in range(len(list(folder.glob("axis-*"))))]


# The tree ------------------------------------------------------------------------------------------------------------


def test_the_tree_is_that_of_hyperspy_in_version_2_of_zarr(path, scan):
    assert emio.imsave(scan, path) == [str(path)]
    assert read_json(path, ".zgroup") == {"zarr_format": 2}
    assert read_json(path, ".zattrs") == {"file_format": "ZSpy", "file_format_version": "3.3"}
    signal = experiment(path)
    assert signal.name == "gold"
    assert read_json(signal, ".zattrs") == {"package": "", "package_version": ""}
    assert read_json(signal, "attributes", ".zattrs") == {"_lazy": False, "ragged": False}
    assert {p.name for p in signal.iterdir() if p.is_dir()} == {
        *("axis-0", "axis-1", "axis-2", "axis-3"),
        *("data", "metadata", "original_metadata", "learning_results", "attributes"),
    }
    assert read_json(signal, "axis-1", ".zattrs") == {
        "_type": "UniformDataAxis",
        "name": "x",
        "units": "nm",
        "scale": 0.25,
        "offset": 0.0,
        "size": 3,
        "navigate": True,
        "is_binned": False,
    }
    assert read_json(signal, "axis-2", ".zattrs")["units"] == "_None_"
    assert read_json(signal, "metadata", "General", ".zattrs") == {"title": "gold"}
    assert read_json(signal, "metadata", "Signal", ".zattrs") == {"signal_type": ""}
    assert read_json(signal, "metadata", "Acquisition_instrument", "TEM", ".zattrs") == {"beam_energy": 200.0}


def test_pixels_are_stored_as_hyperspy_does(path, scan):
    emio.imsave(scan, path)
    meta = read_json(experiment(path), "data", ".zarray")
    assert (meta["compressor"], meta["dtype"], meta["dimension_separator"]) == (BLOSC, "<u2", "/")
    assert (meta["order"], meta["filters"], meta["fill_value"], meta["zarr_format"]) == ("C", None, 0, 2)
    assert (experiment(path) / "data/0/0/0/0").is_file()
    assert_array_equal(zarr.open_array(experiment(path) / "data")[...], scan)


@pytest.mark.parametrize("dtype", ["?", "u1", ">u2", "i8", "f2", ">f4", "f8", "c8", "c16"])
def test_every_type_of_pixels(path, dtype):
    image = xr.DataArray((counts(2, 3) % 2).astype(dtype), dims=("y", "x"))
    emio.imsave(image, path)
    back = emio.imload(path).image
    assert back.dtype == np.dtype(dtype).newbyteorder("=")
    assert_array_equal(back, image)


@pytest.mark.parametrize("dtype", ["M8[ns]", "U3", "longdouble"])
def test_what_is_no_number_is_refused(path, dtype):
    image = xr.DataArray(np.zeros((2, 3), dtype), dims=("y", "x"))
    if np.dtype(dtype).itemsize == 8 and dtype == "longdouble":
        pytest.skip("here it is float64")
    with pytest.raises(ArgumentError, match="no pixels"):
        emio.imsave(image, path)
    with pytest.raises(ArgumentError, match=r"\(0, 3\) has no pixels"):
        emio.imsave(xr.DataArray(np.zeros((0, 3)), dims=("y", "x")), path)
    assert os.listdir(path.parent) == []


# Axes ----------------------------------------------------------------------------------------------------------------

ENERGIES = [1.0, 1.5, 2.0]


@pytest.mark.parametrize(
    ("image", "stored", "signal"),
    [
        (labelled("yx"), "yx", "yx"),
        (labelled("xy"), "yx", "yx"),
        (labelled("iyx"), "iyx", "yx"),
        (labelled("itczyx"), "itczyx", "yx"),
        (labelled("yxvu"), "yxvu", "vu"),
        (labelled("vuyx"), "yxvu", "vu"),
        (labelled("iyxvu"), "iyxvu", "vu"),
        (labelled("yxu"), "yxu", "u"),
        (labelled("cyvu", c=["a", "b"]), "cyvu", "vu"),
        (labelled("cyx"), "cyx", "yx"),  # two channels are channels
        (labelled("cyx", (3, 4, 5), c=ENERGIES), "yxc", "c"),  # energies are a spectrum
        (labelled("cyx", (5, 4, 3)), "yxc", "c"),  # and so are many channels
        (labelled("ic", (3, 9)), "ic", "c"),
        (labelled("c", (9,)), "c", "c"),
        (labelled("c", (2,)), "c", "c"),
        (labelled("x"), "x", "x"),
        (labelled("tz"), "tz", "tz"),
        (labelled("itz"), "itz", "tz"),
        (labelled("abyx"), "abyx", "yx"),
    ],
    ids=lambda value: "".join(value.dims) if hasattr(value, "dims") else None,
)
@pytest.mark.filterwarnings("ignore:HyperSpy shows axis c without")
def test_navigation_axes_come_first_and_signal_axes_last(path, image, stored, signal):
    emio.imsave(image, path)
    found = axes_in(path)
    assert "".join(a["name"] for a in found) == stored
    assert "".join(a["name"] for a in found if not a["navigate"]) == signal
    assert_array_equal(zarr.open_array(experiment(path) / "data")[...], image.transpose(*stored))
    back = emio.imload(path).image
    assert back.dims == image.dims
    assert_array_equal(back, image)


def test_uneven_coordinates_are_stored_one_by_one(path):
    emio.imsave(labelled("cyx", (3, 4, 5), c=([1.0, 2.0, 4.0], "eV")), path)
    energy = axes_in(path)[2]
    assert (energy["_type"], energy["units"]) == ("DataAxis", "eV")
    assert not {"scale", "offset"} & energy.keys()
    assert zarr.open_array(experiment(path) / "axis-2" / "axis")[...].tolist() == [1, 2, 4]


@pytest.mark.parametrize(
    ("values", "scale", "offset"),
    [
        ([3.0, 2.5, 2.0], -0.5, 3.0),
        ([10, 20, 30], 10.0, 10.0),
        (np.float32([0.1, 0.2, 0.3]), 0.1, 0.1),
        ([0.0, 1.0, 2.0], 1.0, 0.0),
    ],
)
def test_even_coordinates_become_scale_and_offset(path, values, scale, offset):
    emio.imsave(labelled("yx", (3, 2), y=(np.array(values), "nm")), path)
    found = axes_in(path)[0]
    assert (found["scale"], found["offset"]) == (pytest.approx(scale), pytest.approx(offset))
    assert_array_equal(emio.imload(path).y, values)


def test_a_single_point_keeps_its_place(path):
    emio.imsave(labelled("iyx", (1, 2, 3), i=[7.5]), path)
    assert (axes_in(path)[0]["scale"], axes_in(path)[0]["offset"]) == (1.0, 7.5)


@pytest.mark.parametrize(
    "values",
    [
        ["left", "mid", "right"],
        [1.0, 3.0, 2.0],
        [1.0, 1.0, 1.0],
        [1.0, np.nan, 2.0],
        np.array([1, 2, 4], "M8[s]").astype("M8[ns]"),
        [True, False, True],
    ],
)
def test_coordinates_that_hyperspy_cannot_have_are_ours_alone(path, values):
    image = labelled("tyx", (3, 2, 2), t=values)
    with pytest.warns(EmioWarning, match="HyperSpy shows axis t without coordinates"):
        emio.imsave(image, path)
    assert (axes_in(path)[0]["scale"], axes_in(path)[0]["offset"]) == (1.0, 0.0)
    back = emio.imload(path)
    xr.testing.assert_identical(back.image.coords["t"].drop_attrs(), image.coords["t"])
    assert back.t.dtype == image.t.dtype


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(("names", "axes"), [("rgb", "yxc"), ("rgba", "cyx"), ("RGB", "icyx")])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_colours_are_records(path, names, axes, dtype, lazy):
    shape = [len(names) if a == "c" else 4 for a in axes]
    image = labelled(axes, shape, dtype, c=list(names))
    emio.imsave(image.chunk(2) if lazy else image, path)
    stored = zarr.open_array(experiment(path) / "data")
    assert stored.dtype == np.dtype([(name.upper(), f"<{dtype}") for name in names])
    assert "".join(a["name"] for a in axes_in(path)) == axes.replace("c", "")
    assert_array_equal(stored[...]["G"], image.isel(c=1))
    xr.testing.assert_equal(emio.imload(path).image.compute(), image)


def test_colours_of_other_types_are_channels(path):
    with pytest.warns(EmioWarning, match="axis c"):
        emio.imsave(labelled("cyx", (3, 4, 5), "f4", c=list("rgb")), path)
    assert [a["navigate"] for a in axes_in(path)] == [True, False, False]


# Metadata ------------------------------------------------------------------------------------------------------------


def test_facts_stand_where_hyperspy_looks_for_them(path, scan):
    scan.attrs["acquisition"] = {
        "beam_energy": 200.0,
        "camera_length": 80.0,
        "magnification": 1e5,
        "convergence_angle": 1.5,
        "instrument": "Titan",
        "exposure_time": 0.5,
        "dwell_time": 0.001,
        "stage": {"tilt_alpha": 3.0},
        "title": "Au / C",
        "start_time": "2024-05-06T07:08:09Z",
        "detector": "Merlin",
    }
    emio.imsave(scan, path)
    signal = experiment(path)
    assert signal.name == "Au - C"
    microscope = signal / "metadata" / "Acquisition_instrument" / "TEM"
    assert read_json(microscope, ".zattrs") == {
        "beam_energy": 200.0,
        "camera_length": 80.0,
        "magnification": 1e5,
        "convergence_angle": 1.5,
        "microscope": "Titan",
        "dwell_time": 0.001,
    }
    assert read_json(microscope, "Stage", ".zattrs") == {"tilt_alpha": 3.0}
    assert read_json(microscope, "Detector", "Camera", ".zattrs") == {"exposure": 0.5}
    assert read_json(signal, "metadata", "General", ".zattrs") == {
        "title": "Au / C",
        "date": "2024-05-06",
        "time": "07:08:09",
        "time_zone": "UTC",
    }
    assert emio.imload(path).attrs["acquisition"] == scan.attrs["acquisition"]


def test_the_dwell_time_of_a_spectrum_is_that_of_its_detector(path):
    image = labelled("cyx", (3, 4, 5), c=ENERGIES)
    image.attrs["acquisition"] = {"dwell_time": 0.1}
    emio.imsave(image, path)
    place = ("metadata", "Acquisition_instrument", "TEM", "Detector", "EELS", ".zattrs")
    assert read_json(experiment(path), *place) == {"dwell_time": 0.1}


def test_an_image_without_a_title_has_the_usual_name(path):
    emio.imsave(labelled("yx"), path)
    assert experiment(path).name == "__unnamed__"


@pytest.mark.parametrize("title", ["a/b", "..", ".zattrs", "nul\0", "ä" * 300, "a b:c"])
def test_titles_that_are_no_names_of_folders(path, title):
    image = labelled("yx")
    image.attrs["acquisition"] = {"title": title}
    emio.imsave(image, path)
    assert read_json(experiment(path), "metadata", "General", ".zattrs") == {"title": title.replace("\0", "")}
    assert emio.imload(path).attrs["acquisition"] == {"title": title}


def test_the_header_of_other_formats_becomes_original_metadata(path, scan):
    header = {
        "a": 1,
        "b": {"c": None, "d": [1.5, 2]},
        "e": ["p", "ä"],
        "f": [],
        "g": [{"h": True}, "mixed", 3],
        "i/j": {},
    }
    scan.attrs["metadata"] = {"fileheader": header}
    emio.imsave(scan, path)
    original = experiment(path) / "original_metadata"
    attributes = read_json(original, ".zattrs")
    assert json.loads(attributes.pop("emio"))["axes"] == "yxvu"
    assert attributes == {"a": 1, "_list_empty_f": "_None_"}
    assert read_json(original, "b", ".zattrs") == {"c": "_None_"}
    assert zarr.open_array(original / "b" / "_list_d")[...].tolist() == [1.5, 2.0]
    assert zarr.open_array(original / "_list_e")[...].tolist() == ["p", "ä"]
    meta = read_json(original, "_list_e", ".zarray")
    assert (meta["dtype"], meta["filters"]) == ("|O", [{"id": "vlen-utf8"}])
    assert read_json(original, "_list_3_g", ".zattrs") == {"1": "mixed", "2": 3}
    assert read_json(original, "_list_3_g", "0", ".zattrs") == {"h": True}
    assert (original / "i-j" / ".zgroup").is_file()
    assert emio.imload(path).attrs["metadata"]["fileheader"] == header


def test_types_are_spelled_in_the_keys():
    group = encoded(
        {
            "tuple": (1, 2),
            "empty": (),
            "bools": [True, False],
            "kinds": [True, 2],
            "nested": [[1], ["a"]],
            "vector": np.array([1.5]),
            "text": np.array(["ä"]),
            "scalar": np.float32(0.5),
            "point": np.array(3),
            "bytes": b"a\x00b",
            "nul": "a\0b",
            "huge": 1 << 70,
            "large": [1, 1 << 70],
            "other": np.datetime64("2024-01-01"),
            ".zattrs": {"x": 1},
        }
    )
    assert {k: v.tolist() for k, v in group.arrays.items()} == {
        "_tuple_tuple": [1, 2],
        "_list_bools": [True, False],
        "vector": [1.5],
        "text": ["ä".encode()],
    }
    assert group.attributes == {
        "_tuple_empty_empty": "_None_",
        "scalar": 0.5,
        "point": 3,
        "bytes": "ab",
        "nul": "ab",
        "huge": str(1 << 70),
        "other": "2024-01-01",
    }
    assert set(group.groups) == {"_list_2_kinds", "_list_2_nested", "_list_2_large", "_.zattrs"}
    assert group.groups["_list_2_kinds"].attributes == {"0": True, "1": 2}
    assert group.groups["_list_2_nested"].arrays.keys() == {"_list_0", "_list_1"}


# There and back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store_type", ["local", "zip"])
def test_everything_that_is_known_comes_back(path, store_type):
    image = labelled("uyxv").assign_coords(
        c=0.25,
        y=("y", [0.5, 0.75, 1.0], {"units": "nm", "comment": "piezo"}),
        v=("v", ["a", "b", "c", "d", "e"]),
        time=(("y", "x"), np.arange(12).reshape(3, 4).astype("M8[ms]").astype("M8[ns]")),
        dose=("x", np.float32([1, 2, 3, 4]), {"units": "e"}),
    )
    image.attrs = {"gain": 2.5, "list": [1, 2]}
    with pytest.warns(EmioWarning, match="axis v"):
        emio.imsave(image, path, store_type=store_type)
    xr.testing.assert_identical(emio.imload(path).image.compute(), image.rename("image"))


def test_long_accounts_are_kept_in_pieces(path):
    image = labelled("iyx", (5000, 1, 2), i=np.cumsum(1 + np.random.default_rng(0).random(5000)))
    emio.imsave(image, path)
    pieces = zarr.open_array(experiment(path) / "original_metadata" / "_list_emio")[...]
    assert len(pieces) > 1
    xr.testing.assert_equal(emio.imload(path).image.compute(), image)


def test_hyperspy_has_the_last_word_if_it_has_written_the_file_since(path, scan):
    emio.imsave(scan, path)
    signal = experiment(path)
    for name, changed in ((".zattrs", {"package": "hyperspy"}), ("axis-0/.zattrs", {"scale": 3.0})):
        (signal / name).write_text(json.dumps({**read_json(signal, name), **changed}))
    back = emio.imload(path)
    assert back.y.values.tolist() == [0, 3]
    assert "emio" not in back.attrs["metadata"]["fileheader"]["original_metadata"]


def test_an_account_that_does_not_fit_is_not_believed(path, scan):
    emio.imsave(scan, path)
    original = experiment(path) / "original_metadata" / ".zattrs"
    for account in ("no JSON", json.dumps({"version": 1}), json.dumps({"version": 1, "axes": "yx", "shape": [1, 2]})):
        original.write_text(json.dumps({"emio": account}))
        image = emio.imload(path).image
        assert image.dims == ("y", "x", "v", "u")
        assert image.y.values.tolist() == [0, 0.5]


def test_images_with_several_variables_and_sets_of_files(tmp_path, scan):
    ds = xr.Dataset({"image": scan, "navigator": scan.sum(("v", "u"))})
    names = [os.path.basename(name) for name in emio.imsave(ds, tmp_path / "scan.zspy")]
    assert names == ["scan.var_image.zspy", "scan.var_navigator.zspy"]
    emio.imsave(scan, tmp_path / "frames.zspy", partition="vu")
    assert (tmp_path / "frames.y_0.0.x_0.25.zspy").is_dir()
    xr.testing.assert_equal(emio.imload(str(tmp_path / "frames.*.zspy")).image.compute(), scan)


# Signals of HyperSpy -------------------------------------------------------------------------------------------------


@pytest.fixture
def hyperspy_file(tmp_path):
    axes = [
        navigation("Breite", "px", 1.0),
        navigation(None, "$A^{-1}$", -0.5, 2.0),
        {
            "_type": "DataAxis",
            "name": "E",
            "units": "eV",
            "navigate": False,
            "is_binned": True,
            "axis": np.array([1.0, 2.0, 4.0]),
        },
    ]
    metadata = {
        "General": {"title": "loss"},
        "Signal": {"signal_type": "EELS"},
        "Acquisition_instrument": {"SEM": {"beam_energy": 15.0, "Detector": {"EELS": {"dwell_time": 0.1}}}},
        "mine": {"_tuple_pair": np.array([1, 2]), "vector": np.array([0.5]), "nan": float("nan"), "none": None},
    }
    return write_zspy(tmp_path / "in.zspy", counts(2, 4, 3), axes, title="loss", metadata=metadata)


def test_a_signal_of_hyperspy_is_written_as_it_was(path, hyperspy_file):
    emio.imsave(emio.imload(hyperspy_file), path)
    before, after = experiment(hyperspy_file), experiment(path)
    assert after.name == "loss"
    assert axes_in(path) == axes_in(hyperspy_file)
    assert zarr.open_array(after / "axis-2" / "axis")[...].tolist() == [1, 2, 4]
    for name in ("General", "Signal", "Acquisition_instrument/SEM", "Acquisition_instrument/SEM/Detector/EELS"):
        assert read_json(after / "metadata", name, ".zattrs") == read_json(before / "metadata", name, ".zattrs")
    assert zarr.open_array(after / "metadata/mine/_tuple_pair")[...].tolist() == [1, 2]
    assert zarr.open_array(after / "metadata/mine/vector")[...].tolist() == [0.5]
    mine = read_json(after, "metadata/mine/.zattrs")
    assert mine["none"] == "_None_"
    assert np.isnan(mine["nan"])


def test_what_has_changed_since_is_written_as_it_is_now(path, hyperspy_file):
    ds = emio.imload(hyperspy_file)
    ds = ds.isel(x=slice(1, 3))
    ds.attrs["acquisition"]["beam_energy"] = 30.0
    emio.imsave(ds, path)
    found = axes_in(path)
    assert found[1] == {**navigation(None, "$A^{-1}$", -0.5, 1.5), "name": "_None_", "size": 2}
    assert (found[0]["units"], found[2]["is_binned"]) == ("px", True)
    assert read_json(experiment(path), "metadata/Acquisition_instrument/SEM/.zattrs")["beam_energy"] == 30.0


def test_axes_that_were_summed_away_leave_an_image(path, tmp_path):
    source = write_zspy(tmp_path / "in.zspy", counts(2, 3, 4, 5), [navigation(), navigation(), axis(), axis()])
    emio.imsave(emio.imload(source).sum(("v", "u")), path)
    assert [a["navigate"] for a in axes_in(path)] == [False, False]


def test_a_function_stays_a_function(path, tmp_path):
    curve = {
        "_type": "FunctionalDataAxis",
        "name": "x",
        "units": "nm",
        "navigate": False,
        "expression": "a*x**2",
        "a": 0.5,
    }
    write_zspy(tmp_path / "in.zspy", counts(2, 3), [axis(), {**curve, "x": axis("x", None, 2.0, size=3)}])
    emio.imsave(emio.imload(tmp_path / "in.zspy"), path)
    found = axes_in(path)[1]
    assert (found["_type"], found["expression"], found["a"]) == ("FunctionalDataAxis", "a*x**2", 0.5)
    assert read_json(experiment(path), "axis-1", "x", ".zattrs")["scale"] == 2.0


def test_what_was_not_read_is_not_written_and_a_warning_says_so(path, tmp_path):
    source = write_zspy(tmp_path / "in.zspy", counts(2, 3), [axis(), axis()], metadata={"big": np.zeros(2000)})
    signal = experiment(source)
    write_tree(signal / "metadata" / "Markers", {"Points": {"class": "Points"}})
    write_ragged(signal / "metadata" / "Markers" / "Points" / "offsets", 2)
    write_tree(signal / "learning_results", {"factors": counts(3, 3)})
    with pytest.warns(
        EmioWarning, match="not written again: learning results, metadata/Markers/Points/offsets, metadata/big"
    ):
        emio.imsave(emio.imload(source), path)
    assert not any((experiment(path) / "metadata" / name).exists() for name in ("big", "Markers/Points"))


# Chunks and compression ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "signal", "itemsize", "target", "wanted"),
    [  # as RosettaSciIO 0.15 cuts them
        ((256, 256, 64, 64), 2, 2, 1e8, (110, 110, 64, 64)),
        ((4, 5000, 64, 64), 2, 2, 1e8, (4, 3051, 64, 64)),
        ((100, 1024, 1024), 2, 2, 1e8, (47, 1024, 1024)),
        ((50, 50, 50, 64, 64), 2, 2, 1e8, (23, 23, 23, 64, 64)),
        ((5, 1000, 1000, 1024), 1, 2, 1e8, (5, 98, 98, 1024)),
        ((3, 4, 8192, 8192), 2, 2, 1e8, (1, 1, 8192, 8192)),
        ((20000, 20000), 2, 2, 1e8, (20000, 20000)),
        ((4, 256, 64, 64), 2, 2, 1e6, (4, 30, 64, 64)),
    ],
)
def test_arrays_in_memory_are_cut_as_hyperspy_cuts_them(shape, signal, itemsize, target, wanted):
    assert signal_chunks(shape, signal, itemsize, target) == wanted


def stored_chunks(path):
    return read_json(experiment(path), "data", ".zarray")["chunks"]


@pytest.mark.parametrize(
    ("chunks", "wanted"),
    [
        (None, [4, 4, 8, 8]),
        ("frame", [1, 1, 8, 8]),
        ((2, 3, 8, 4), [2, 3, 8, 4]),
        ({"y": 1, "u": 2}, [1, 6, 8, 2]),
        (3, [3, 3, 3, 3]),
    ],
)
def test_chunks_are_those_of_dask_or_of_the_user(path, chunks, wanted):
    data = counts(6, 6, 8, 8)
    image = xr.DataArray(da.from_array(data, chunks=(4, 4, 8, 8)), dims=tuple("yxvu"))
    emio.imsave(image, path, chunks=chunks)
    assert stored_chunks(path) == wanted
    assert_array_equal(emio.imload(path).image, data)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_uneven_dask_chunks_are_aligned_so_that_no_two_tasks_write_the_same_file(path, scheduler):
    data = counts(10, 9, 4, 4)
    image = xr.DataArray(da.from_array(data, chunks=((3, 5, 2), (4, 1, 4), 4, (1, 3))), dims=tuple("yxvu"))
    with dask.config.set(scheduler=scheduler, num_workers=2):
        emio.imsave(image, path)
    assert stored_chunks(path) == [3, 4, 4, 1]
    assert_array_equal(emio.imload(path).image, data)


@pytest.mark.parametrize("store_type", ["local", "zip"])
def test_lazy_pixels_are_computed_once(path, store_type):
    seen = []

    def block(block_info=None):
        seen.append(block_info[None]["chunk-location"])
        return np.full((2, 4, 4), len(seen), "u2")

    lazy = da.map_blocks(block, chunks=((2,) * 5, 4, 4), dtype="u2", meta=np.empty((0, 0, 0), "u2"))
    emio.imsave(xr.DataArray(lazy, dims=tuple("iyx")), path, store_type=store_type)
    assert sorted(seen) == [(k, 0, 0) for k in range(5)]
    assert sorted(emio.imload(path).image[::2, 0, 0].values.tolist()) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "chunks", [(1, 2), {"q": 1}, {"y": 0}, {"y": (1, 1)}, "some", {"y": 1.5}, (1, 1, 1, (2, 3)), {"u": -2}]
)
def test_chunks_that_do_not_fit_are_refused(path, scan, chunks):
    with pytest.raises(ArgumentError, match="chunks"):
        emio.imsave(scan, path, chunks=chunks)
    assert not path.exists()


def test_chunks_stay_below_what_can_be_compressed(path):
    huge = xr.DataArray(da.zeros((50_000, 50_000), dtype="u2", chunks=50_000), dims=("y", "x"))
    with pytest.raises(ArgumentError, match="less than 2 GiB"):
        save(huge, path, chunks=(50_000, 50_000))
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, BLOSC),
        ({"compress": True}, {**BLOSC, "clevel": 5, "shuffle": 2}),
        ({"compress": False}, None),
        ({"compressor": False}, None),
        ({"compressor": numcodecs.Zlib(3)}, {"id": "zlib", "level": 3}),
        ({"compressor": numcodecs.LZ4()}, {"id": "lz4", "acceleration": 1}),
        ({"compressor": {"id": "bz2", "level": 2}}, {"id": "bz2", "level": 2}),
    ],
)
def test_compressors_are_those_of_numcodecs(path, scan, options, wanted):
    emio.imsave(scan, path, **options)
    assert read_json(experiment(path), "data", ".zarray")["compressor"] == wanted
    assert_array_equal(emio.imload(path).image, scan)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"compressor": "zstd"}, ArgumentTypeError, "codec of numcodecs"),
        ({"compressor": True}, ArgumentTypeError, "codec of numcodecs"),
        ({"compressor": zarr.codecs.BloscCodec()}, ArgumentTypeError, "version 2 of Zarr only"),
        ({"compressor": {"id": "of nobody"}}, ArgumentError, "no codec"),
        ({"compressor": numcodecs.Pickle()}, ArgumentError, "Python objects"),
        ({"compressor": numcodecs.Zlib(), "compress": True}, ArgumentError, "pass one of them"),
        ({"store_type": "lmdb"}, ArgumentError, "store_type"),
        ({"shards": 3}, UnknownArgumentError, "'shards'; allowed: .*write_dataset"),
        ({"filters": ["delta"]}, ArgumentError, "filters"),
        ({"fill_value": "red"}, ArgumentError, "fill_value"),
        ({"order": "K"}, ArgumentError, "order"),
    ],
)
def test_options_that_do_not_fit_are_refused(path, scan, options, error, match):
    with pytest.raises(error, match=match):
        emio.imsave(scan, path, **options)
    assert os.listdir(path.parent) == []


def test_more_can_be_said_of_the_array(path, scan):
    emio.imsave(scan, path, filters=[numcodecs.Delta("u2")], order="F", fill_value=3)
    meta = read_json(experiment(path), "data", ".zarray")
    assert (meta["filters"][0]["id"], meta["order"], meta["fill_value"]) == ("delta", "F", 3)
    assert_array_equal(emio.imload(path).image, scan)


def test_an_image_of_zeros_has_chunks_too(path):
    image = xr.DataArray(da.zeros((9, 1024, 4096), dtype="u2", chunks=(3, 1024, 4096)), dims=tuple("iyx"))
    emio.imsave(image, path)
    assert not emio.imload(path).image.any()


# Stores --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [False, True])
def test_a_zip_holds_each_member_once_and_as_it_is(path, scan, lazy):
    emio.imsave(scan.chunk({"y": 1, "u": 2}) if lazy else scan, path, store_type="zip", chunks={"y": 1, "u": 2})
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert len(names) == len(set(names))
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    xr.testing.assert_equal(emio.imload(path).image.compute(), scan)


@pytest.mark.parametrize("store_type", [None, "zip"])
def test_remote_stores_are_written(scan, store_type):
    url = f"memory://zspy-out-{store_type}/scan.zspy"
    emio.imsave(scan.chunk({"y": 1}), url, store_type=store_type)
    xr.testing.assert_equal(emio.imload(url).image.compute(), scan)
    with pytest.raises(TargetExistsError):
        emio.imsave(scan, url)


@pytest.mark.parametrize("lazy", [False, True])
def test_stores_that_are_handed_over_are_filled(tmp_path, scan, lazy):
    stores = [
        {},
        zarr.storage.MemoryStore(),
        zarr.storage.LocalStore(tmp_path / "a.zspy"),
        zarr.storage.FsspecStore.from_url(f"file://{tmp_path}/b.zspy", storage_options={"auto_mkdir": True}),
        fsspec.get_mapper(f"file://{tmp_path}/c.zspy", auto_mkdir=True),
    ]
    for store in stores:
        save(scan.chunk({"y": 1}) if lazy else scan, store)
        assert_array_equal(ZspySource(store).read().image, scan)
    packed = zarr.storage.ZipStore(tmp_path / "d.zspy", mode="w")
    save(scan.chunk({"y": 1}) if lazy else scan, packed, close_file=False)
    assert_array_equal(zarr.open_array(packed, path="Experiments/gold/data", mode="r+")[...], scan)
    packed.close()
    assert_array_equal(emio.imload(tmp_path / "d.zspy").image, scan)
    with pytest.raises(ArgumentError, match="store_type"):
        save(scan, {}, store_type="zip")
    with pytest.raises(ArgumentTypeError, match="neither a path nor a Zarr store"):
        save(scan, 3)


@pytest.mark.parametrize("store_type", [None, "zip"])
def test_a_save_that_fails_leaves_everything_as_it_was(path, scan, store_type):
    emio.imsave(scan, path, store_type=store_type)

    def fail(block):
        raise RuntimeError("on purpose")

    lazy = xr.DataArray(da.map_blocks(fail, da.ones((4, 4)), dtype="f8", meta=np.empty((0, 0))), dims=("y", "x"))
    with pytest.raises(RuntimeError, match="on purpose"):
        emio.imsave(lazy, path, overwrite=True, store_type=store_type)
    assert os.listdir(path.parent) == [path.name]
    assert_array_equal(emio.imload(path).image, scan)


# Metadata only -------------------------------------------------------------------------------------------------------


def state_of(path):
    return {str(f.relative_to(path)): (f.read_bytes(), f.stat().st_mtime_ns) for f in path.rglob("*") if f.is_file()}


def test_metadata_are_written_anew_without_touching_pixels(path, scan):
    emio.imsave(scan, path)
    before = state_of(experiment(path) / "data")
    scan = scan.assign_coords(y=("y", [0.0, 2.0], {"units": "µm"}))
    scan.attrs["acquisition"]["beam_energy"] = 80.0
    save(scan.copy(data=np.zeros_like(scan)), path, write_dataset=False)
    assert state_of(experiment(path) / "data") == before
    assert (axes_in(path)[0]["scale"], axes_in(path)[0]["units"]) == (2.0, "µm")
    assert read_json(experiment(path), "metadata/Acquisition_instrument/TEM/.zattrs") == {"beam_energy": 80.0}
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("version", [2, 3])
def test_metadata_of_hyperspy_are_written_anew_and_what_was_not_read_stays(path, version):
    write_zspy(path, counts(2, 3), [axis("y"), axis("x")], metadata={"big": np.zeros(2000)}, version=version)
    signal = experiment(path)
    if version == 2:
        write_tree(signal / "metadata" / "Markers", {"Points": {"class": "Points"}})
        write_ragged(signal / "metadata" / "Markers" / "Points" / "offsets", 2)
    write_tree(signal / "learning_results", {"factors": counts(3, 3)}, version)
    kept = {
        **state_of(signal / "data"),
        **state_of(signal / "learning_results"),
        **state_of(signal / "metadata" / "big"),
    }
    image = emio.imload(path).image.assign_coords(x=("x", [0.0, 0.1, 0.2], {"units": "nm"}))
    save(image.assign_attrs(emio.imload(path).attrs), path, write_dataset=False)
    now = {
        **state_of(signal / "data"),
        **state_of(signal / "learning_results"),
        **state_of(signal / "metadata" / "big"),
    }
    assert {k: v[0] for k, v in now.items()} == {k: v[0] for k, v in kept.items()}
    assert (signal / "metadata" / "Markers" / "Points" / "offsets" / ".zarray").is_file() == (version == 2)
    again = emio.imload(path)
    assert again.x.values.tolist() == [0, 0.1, 0.2]
    assert_array_equal(again.image, counts(2, 3))


def test_imsave_writes_metadata_anew_too(path, scan):
    emio.imsave(scan, path)
    before = state_of(experiment(path) / "data")
    assert emio.imsave(scan.assign_coords(y=[0.0, 2.0]), path, write_dataset=False) == [str(path)]
    assert state_of(experiment(path) / "data") == before
    assert emio.imload(path).y.values.tolist() == [0, 2]
    with pytest.raises(HeaderError, match="shape"):
        emio.imsave(scan.isel(y=[0]), path, write_dataset="false")


def test_metadata_of_what_is_not_there_are_refused(path, tmp_path, scan):
    with pytest.raises(EmioError, match=r"out\.zspy"):
        save(scan, path, write_dataset=False)
    emio.imsave(scan, path)
    before = state_of(path)
    with pytest.raises(HeaderError, match=r"no such signal .* there are: gold"):
        save(labelled("yxvu"), path, write_dataset=False)
    with pytest.raises(HeaderError, match=r"shape \(2, 3, 4, 5\), and the image \(1, 3, 4, 5\)"):
        save(scan.isel(y=[0]), path, write_dataset=False)
    emio.imsave(scan, tmp_path / "packed.zspy", store_type="zip")
    with pytest.raises(ArgumentError, match="a ZIP cannot be changed"):
        save(scan, tmp_path / "packed.zspy", write_dataset=False)
    with pytest.raises(ArgumentError, match="local folder"):
        save(scan, {}, write_dataset=False)
    assert state_of(path) == before


def test_metadata_that_cannot_be_put_in_place_stay_as_they_were(path, scan, monkeypatch):
    emio.imsave(scan, path)
    before = state_of(path)
    rename = os.rename

    def failing(source, target):
        if os.path.basename(target) == "metadata" and "new" in source:
            raise OSError("on purpose")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    scan.attrs["acquisition"]["beam_energy"] = 80.0
    with pytest.raises(OSError, match="on purpose"):
        save(scan, path, write_dataset=False)
    assert state_of(path) == before
    assert os.listdir(path.parent) == [path.name]


# Other programs ------------------------------------------------------------------------------------------------------

TELL = """
import json, sys
import hyperspy.api as hs
signals = []
for lazy in (False, True):
    for path in sys.argv[1:]:
        s = hs.load(path, lazy=lazy)
        signals.append({
            "class": type(s).__name__,
            "dtype": str(s.data.dtype),
            "shape": s.data.shape,
            "sum": float(abs(s.data).sum()),
            "axes": [
                [a.name, a.units, a.axis.tolist(), a.navigate] for a in s.axes_manager._axes
            ],
            "metadata": s.metadata.as_dictionary(),
        })
print(json.dumps(signals, default=str))
"""
CHANGE = """
import sys
import hyperspy.api as hs
s = hs.load(sys.argv[1])
s.axes_manager["y"].scale = 3.0
s.save(sys.argv[1], overwrite=True, write_dataset=False)
"""


@pytest.fixture(scope="module")
def hyperspy():
    """Run a script in an environment with HyperSpy, which wants version 2 of zarr-python."""
    interpreter = os.environ.get("EMIO_HYPERSPY_PYTHON")
    if not interpreter:
        pytest.skip("set EMIO_HYPERSPY_PYTHON to a Python that has hyperspy and zarr<3")

    def run(script, *arguments):
        command = [interpreter, "-W", "ignore", "-c", script, *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    run.interpreter = interpreter
    return run


@pytest.mark.peers
def test_hyperspy_finds_the_same_signal_in_what_we_write_of_its_files(hyperspy):
    script = Path(__file__).parents[1] / "docs" / "examples" / "hyperspy_round_trip.py"
    done = subprocess.run([sys.executable, script, hyperspy.interpreter], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("the same")
    assert (done.returncode, "NOT" in done.stdout) == (0, False)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:HyperSpy shows")
def test_hyperspy_opens_every_kind_of_image(hyperspy, tmp_path, scan):
    header = {"a": [1, "x", None], "b": {"c": [[1, 2], [3]]}, "d": "text"}
    scan.attrs["metadata"] = {"fileheader": header}
    images = {
        "scan": (scan, "Signal2D"),
        "lazy": (scan.chunk({"y": 1}), "Signal2D"),
        "stack": (labelled("tyx", t=([0.0, 0.1], "s")), "Signal2D"),
        "spectra": (labelled("cyx", (4, 3, 2), "f4", c=([1.0, 2.0, 4.0, 8.0], "eV")), "Signal1D"),
        "channels": (labelled("cyx", c=["a", "b"]), "Signal2D"),
        "complex": (labelled("yx", dtype="c8"), "ComplexSignal2D"),
        "flags": (labelled("yx") > 5, "Signal2D"),
    }
    for name, (image, _) in images.items():
        emio.imsave(image, tmp_path / f"{name}.zspy", store_type="zip" if name == "stack" else None)
    told = json.loads(hyperspy(TELL, *(tmp_path / f"{name}.zspy" for name in images)))
    for name, eager, lazy in zip(images, told[: len(images)], told[len(images) :], strict=True):
        image, kind = images[name]
        assert (eager["class"], lazy["class"]) == (kind, f"Lazy{kind}")
        assert (eager["dtype"], eager["shape"]) == (str(image.dtype), [image.sizes[a[0]] for a in eager["axes"]])
        assert eager["sum"] == lazy["sum"] == float(abs(image).sum())
        for letter, units, values, _ in eager["axes"]:
            if letter in image.coords and image[letter].dtype.kind == "f":
                assert (units, values) == (image[letter].attrs.get("units"), pytest.approx(image[letter].values))
            else:
                assert values == list(range(image.sizes[letter]))
    assert [a[0] for a in told[0]["axes"]] == ["y", "x", "v", "u"]
    assert [a[3] for a in told[0]["axes"]] == [True, True, False, False]
    assert told[0]["metadata"]["General"]["title"] == "gold"
    assert told[0]["metadata"]["Acquisition_instrument"] == {"TEM": {"beam_energy": 200.0}}


@pytest.mark.peers
def test_what_hyperspy_changes_in_our_files_is_read(hyperspy, path, scan):
    emio.imsave(scan, path)
    hyperspy(CHANGE, path)
    back = emio.imload(path)
    assert back.y.values.tolist() == [0, 3]
    assert_array_equal(back.image, scan)


@pytest.mark.peers
@pytest.mark.parametrize("store_type", ["local", "zip"])
def test_rosettasciio_reads_what_we_write(path, scan, store_type):
    rsciio = pytest.importorskip("rsciio.zspy")
    scan.attrs["metadata"] = {"fileheader": {"a": [1, "x", None], "b": {"c": [[1, 2], [3]]}}}
    emio.imsave(scan, path, store_type=store_type)
    (signal,) = rsciio.file_reader(str(path))
    assert_array_equal(signal["data"], scan)
    assert [axis["name"] for axis in signal["axes"]] == ["y", "x", "v", "u"]
    assert signal["metadata"]["General"] == {"title": "gold"}
    assert {k: v for k, v in signal["original_metadata"].items() if k != "emio"} == {
        "a": [1, "x", None],
        "b": {"c": [[1, 2], [3]]},
    }
