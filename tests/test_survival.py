"""What survives a save and a load, format by format: the table of docs/saving.md."""

import os
import warnings

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import intake_emio as emio
from intake_emio import imload, imsave
from intake_emio.errors import EmioError, EmioWarning

EVERYTHING = [".zarr", ".ome.zarr", ".nc", ".h5", ".hspy", ".zspy", ".tif", ".ome.tif"]
"""Formats that keep every dimension, coordinate, unit and attribute."""

SEVERAL = [".zarr", ".nc", ".h5"]

NUMBERS = ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"]
WIDE = ["i8", "u8"]
ODD = ["f2", "c8", "c16", "?"]
TYPES = {
    ".zarr": NUMBERS + WIDE + ODD,
    ".h5": NUMBERS + WIDE + ODD,
    ".nc": NUMBERS + WIDE + ["?"],
    ".hspy": NUMBERS + WIDE + ODD,
    ".zspy": NUMBERS + WIDE + ODD,
    ".npy": NUMBERS + WIDE + ODD,
    ".tif": NUMBERS + WIDE + ODD,
    ".ome.tif": NUMBERS,
    ".ome.zarr": NUMBERS + WIDE,
    ".mrc": ["i1", "i2", "u2", "f4", "c8", "f2"],
    ".blo": ["u1"],
}
REFUSED = [
    (".nc", "c8"),
    (".nc", "f2"),
    (".ome.tif", "i8"),
    (".ome.zarr", "c8"),
    (".mrc", "i4"),
    (".mrc", "f8"),
    (".mrc", "?"),
    (".blo", "f4"),
]
COORDINATES = {
    "even": ("x", np.arange(6) * 0.25 - 1, {"units": "nm"}),
    "even, reciprocal": ("x", np.arange(6) * 0.01, {"units": "1/nm"}),
    "in metres": ("x", np.arange(6) * 1.234e-9, {"units": "m"}),
    "without units": ("x", np.arange(6) * 2.0, {}),
    "falling": ("x", 5.0 - np.arange(6), {"units": "µm"}),
    "uneven": ("t", np.array([0.0, 0.1, 7.0]), {"units": "s"}),
    "dates": ("t", np.array(["2024-01-31T01:02:03.5", "2024-02-01", "2025-01-01"], "M8[ns]"), {}),
    "text": ("t", np.array(["actin", "a/b", "µ"]), {}),
    "whole": ("t", np.array([3, 1, 2]), {}),
    "narrow": ("t", np.array([0.1, 0.5, 0.7], "f4"), {"units": "V"}),
    "beside": ("t", np.array([1.5, 2.5, 3.5]), {"units": "K"}),
    "of two axes": (("t", "y"), np.arange(12.0).reshape(3, 4), {"units": "e"}),
    "alone": ((), 77.0, {"units": "K"}),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def movie(**coords):
    """Three frames of 4 x 6 pixels."""
    pixels = np.arange(72, dtype="u2").reshape(3, 4, 6)
    return xr.DataArray(pixels, dims=("t", "y", "x"), coords=coords, name="image")


def there_and_back(image, extension, **options):
    """Save, load, and hand over what came back."""
    written = imsave(image, f"saved{extension}", **options)
    return imload(written[0] if len(written) == 1 else f"saved.*{extension}")


@pytest.mark.parametrize("extension", TYPES)
def test_pixels_of_every_type_are_exact(extension):
    for dtype in TYPES[extension]:
        pixels = (np.arange(2 * 4 * 4) % 120).reshape(2, 4, 4).astype(dtype)
        if np.dtype(dtype).kind == "c":
            pixels = pixels + pixels[::-1] * np.array(1j, dtype)
        image = xr.DataArray(pixels, dims=tuple("iyx"), name="image")
        for given in (image, image.chunk({"i": 1}), image.chunk({"y": 3, "x": 2})):
            back = there_and_back(given, extension, overwrite=True).image
            assert back.dtype == dtype
            np.testing.assert_array_equal(back.values.reshape(pixels.shape), pixels)  # a blockfile makes it a scan


@pytest.mark.parametrize(("extension", "dtype"), REFUSED)
def test_types_that_a_format_has_not_are_refused_with_a_way_out(extension, dtype):
    with pytest.raises(EmioError, match=r"\.zarr|astype|intensity_scaling|float|convert"):
        imsave(xr.DataArray(np.ones((2, 4, 4)) * 1.5, dims=tuple("tyx")).astype(dtype), f"saved{extension}")
    assert os.listdir() == []


@pytest.mark.parametrize(
    "dims",
    ["yx", "iyx", "tyx", "zyx", "cyx", "tcyx", "tzyx", "tzcyx", "yxvu", "iyxvu", "ityxvu", "xy", "x", "yxc", "ic"],
)
@pytest.mark.parametrize("extension", EVERYTHING)
def test_dimensions_return_in_their_order(extension, dims):
    shape = tuple(range(2, 2 + len(dims)))
    image = xr.DataArray(np.arange(np.prod(shape), dtype="u2").reshape(shape), dims=tuple(dims), name="image")
    if extension == ".ome.zarr" and (set(dims) & set("uv") or len(set(dims) & set("zyx")) < 2):
        with pytest.raises(EmioError, match=r"\.zarr"):
            imsave(image, f"saved{extension}")
        return
    back = there_and_back(image, extension).image
    assert set(back.dims) == set(dims)
    np.testing.assert_array_equal(back.transpose(*dims).values, image.values)
    if len(os.listdir()) == 1:
        assert back.dims == tuple(dims)


@pytest.mark.parametrize("kind", COORDINATES)
@pytest.mark.parametrize("extension", EVERYTHING)
def test_coordinates_return_exactly(extension, kind):
    dims, values, attrs = COORDINATES[kind]
    name = dims if dims in ("x", "t") and kind != "beside" else "fact"
    image = movie(**{name: (dims, values, attrs)})
    with warnings.catch_warnings():  # not all that HyperSpy and OME-Zarr keep for us is seen by other programs
        warnings.simplefilter("ignore" if "spy" in extension or "ome.zarr" in extension else "error", EmioWarning)
        back = there_and_back(image, extension).image
    assert back[name].dtype == image[name].dtype
    np.testing.assert_array_equal(back[name].values, image[name].values)
    assert back[name].dims == image[name].dims
    assert back[name].attrs == attrs
    assert set(back.coords) == set(image.coords)


@pytest.mark.parametrize("extension", EVERYTHING)
def test_attributes_and_acquisition_return(extension):
    image = movie().assign_attrs(corrections={"dark": "a.mrc"}, note="gold")
    ds = image.to_dataset().assign_attrs(
        acquisition={"beam_energy": 200.0, "stage": {"x": 1.5}, "title": "µ"},
        metadata={"fileheader": {"NX": 3, "list": [1, 2]}},
        operator="Å",
    )
    back = there_and_back(ds, extension)
    assert back.image.attrs == image.attrs
    assert back.attrs["acquisition"] == ds.attrs["acquisition"]
    assert back.attrs["metadata"]["fileheader"] == {"NX": 3, "list": [1, 2]}
    assert back.attrs["operator"] == "Å"
    assert back.attrs["uri"].endswith(f"saved{extension}")


@pytest.mark.parametrize("extension", [*EVERYTHING, ".npy", ".mrc", ".blo"])
def test_colours_survive(extension):
    pixels = np.arange(4 * 4 * 3, dtype="u1").reshape(4, 4, 3)
    image = xr.DataArray(pixels, dims=tuple("yxc"), coords={"c": ["r", "g", "b"]}, name="image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmioWarning)
        if extension == ".blo":
            imsave(image.transpose(*"cyx"), "saved.blo")
            return
        back = there_and_back(image, extension).image
    if extension in EVERYTHING:
        assert back.c.values.tolist() == ["r", "g", "b"]
        np.testing.assert_array_equal(back.transpose(*"yxc").values, pixels)


@pytest.mark.parametrize("extension", SEVERAL)
def test_several_variables_share_a_file(extension):
    ds = movie(x=("x", np.arange(6) * 0.5, {"units": "nm"})).to_dataset()
    ds = ds.assign(mask=(("y", "x"), np.eye(4, 6).astype(bool)), total=(("t",), np.arange(3.0)))
    assert len(imsave(ds, f"saved{extension}")) == 1
    xr.testing.assert_equal(imload(f"saved{extension}"), ds)


@pytest.mark.parametrize("extension", [".hspy", ".zspy", ".tif", ".ome.tif", ".npy", ".mrc"])
def test_several_variables_become_several_files(extension):
    ds = xr.Dataset({"image": (("y", "x"), np.ones((4, 4), "f4")), "other": (("y", "x"), np.zeros((4, 4), "f4"))})
    written = imsave(ds, f"saved{extension}")
    assert [os.path.basename(path) for path in written] == [
        f"saved.var_image{extension}",
        f"saved.var_other{extension}",
    ]
    xr.testing.assert_equal(imload(f"saved.*{extension}").drop_attrs(), ds)


def test_spacing_in_mrc_files_is_single_precision_of_angstroms():
    image = movie(y=("y", np.arange(4) * 0.25, {"units": "µm"}), x=("x", np.arange(6) * 0.1, {"units": "nm"}))
    back = there_and_back(image, ".mrc")
    assert back.image.dims == ("t", "y", "x")
    np.testing.assert_allclose(emio.get_spacing(back, "yx"), (250.0, 0.1), rtol=1e-6)
    assert emio.get_spacing_units(back, "yx") == ("nm", "nm")


def test_a_scan_in_an_mrc_file_returns_as_a_scan():
    pixels = np.arange(2 * 3 * 4 * 5, dtype="i2").reshape(2, 3, 4, 5)
    back = there_and_back(xr.DataArray(pixels, dims=tuple("yxvu")), ".mrc").image
    assert back.dims == tuple("yxvu")
    np.testing.assert_array_equal(back.values, pixels)


@pytest.mark.parametrize("extension", [".npy", ".mrc", ".blo"])
def test_one_warning_says_what_is_lost(extension):
    image = xr.DataArray(
        np.zeros((3, 4, 5, 5), "u1"), dims=tuple("yxvu"), coords={"y": ("y", [0.0, 5.0, 6.0], {"units": "nm"})}
    )
    with pytest.warns(EmioWarning) as caught:
        imsave(image.astype("i2") if extension == ".mrc" else image, f"saved{extension}")
    assert len(caught) == 1
    assert "zarr" in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("extension", EVERYTHING)
def test_no_warning_where_nothing_is_lost(extension):
    image = movie(t=("t", [0.0, 0.5, 1.0], {"units": "s"}), x=("x", np.arange(6) * 0.5, {"units": "nm"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        imsave(image, f"saved{extension}")


@pytest.mark.parametrize("extension", [e for e in TYPES if e not in (".npy", ".zarr", ".h5", ".nc")])
def test_axes_of_no_length_are_refused(extension):
    with pytest.raises(EmioError):
        imsave(xr.DataArray(np.zeros((0, 4, 4), "u1"), dims=tuple("iyx")), f"saved{extension}")
    assert os.listdir() == []


@pytest.mark.parametrize("extension", TYPES)
def test_extensions_may_be_written_in_capitals(extension):
    pixels = np.zeros((4, 4), "u1" if extension == ".blo" else "i2")
    (path,) = imsave(pixels, f"saved{extension.upper()}")
    np.testing.assert_array_equal(imload(path).image.values.reshape(4, 4), pixels)


@pytest.mark.parametrize("extension", TYPES)
def test_memory_and_graphs_stay_out_of_files(extension):
    pixels = da.zeros((6, 8, 8), chunks=(2, 8, 8), dtype="u1" if extension == ".blo" else "i2")
    image = xr.DataArray(pixels, dims=tuple("iyx"))
    imsave(image, f"saved{extension}")
    assert not any(name.startswith(".") for name in os.listdir())
