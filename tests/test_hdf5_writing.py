"""Writing HDF5 files: plain ones with dimension scales, netCDF-4, and HyperSpy's; and what comes back of them."""

import datetime
import json
import os

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr

import intake_emio as emio
from intake_emio.errors import ArgumentError, EmioError, EmioWarning, StorageError
from intake_emio.formats.hdf5 import HDF5Source
from intake_emio.frames.frames import Frames

PIXELS = np.random.default_rng(0).poisson(2, (3, 4, 50, 60)).astype("u2")
NAMED = pytest.mark.parametrize("extension", [".h5", ".nc"])
ALL = pytest.mark.parametrize("extension", [".h5", ".nc", ".hspy"])
CUTS = {
    "in memory": lambda pixels: pixels,
    "big-endian": lambda pixels: pixels.astype(">u2"),
    "strided": lambda pixels: pixels.repeat(2, 0)[::2, :, :, :],
    "frames": lambda pixels: da.from_array(pixels, chunks=(2, 3, 50, 60)),
    "rows of frames": lambda pixels: da.from_array(pixels, chunks=(2, 1, 40, 60)),
    "within frames": lambda pixels: da.from_array(pixels, chunks=(2, 3, 20, 40)),
    "uneven": lambda pixels: da.from_array(pixels, chunks=((1, 2), (2, 1, 1), (50,), (10, 50))),
}


def scan(pixels=PIXELS):
    """Everything that people put into a Dataset."""
    times = np.arange(12).reshape(3, 4).astype("M8[s]").astype("M8[ns]")
    return xr.Dataset(
        {
            "image": (
                ("y", "x", "v", "u"),
                pixels,
                {"gain": 2.5, "flag": True, "nested": {"a": [1, None]}, "one": [1]},
            ),
            "navigator": (("y", "x"), np.arange(12, dtype="u1").reshape(3, 4), {"quality": [2.5], "note": "first"}),
            "good": (("y", "x"), np.arange(12).reshape(3, 4) % 5 > 0),
            "spectrum": (("c",), np.arange(4.0)),
        },
        {
            "y": ("y", [0.0, 0.5, 1.0], {"units": "nm"}),
            "x": ("x", ["left", "a", "b", "rechts außen"]),
            "u": ("u", np.arange(60)),
            "c": ("c", [1.0, 2, 4, 8], {"units": "eV", "long_name": "energy loss"}),
            "time": (("y", "x"), times),
            "day": (
                "x",
                np.array(["2024-01-01", "2024-02-29", "NaT", "1999-12-31"], "M8[s]"),
                {"units": "days of work"},
            ),
            "exact": ("y", np.array(["2024-01-01T00:00:00.123456789", "NaT", "2024-01-02"], "M8[ns]")),
            "dwell": ("x", np.array([1, 2, 3, 4], "m8[ms]")),
            "start": np.datetime64("2024-01-31T23:59:59", "ns"),
            "exposure": 0.25,
            "dose": (("y", "x"), np.linspace(0, 1, 12, dtype="f4").reshape(3, 4), {"units": "1/nm^2", "kind": "ä"}),
            "on": ("x", [True, False, True, True]),
            "half": ("x", np.array([1, 2, 3, 4], "f2")),
            "tilt angle": ("y", [1, 2, 3]),
            "operator": ("y", np.array(["Ada", "Åsa", ""], object)),
        },
        {
            "acquisition": {"beam_energy": 300.0, "title": "gold"},
            "metadata": {"fileheader": {"SW": 3, "list": [1, {"b": None}]}},
            "sample": {"name": "gold", "layers": (1, 2)},
            "tilts": [1, 2],
            "format": "blo",
        },
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stored(path, name="image"):
    """Pixels as HDF5 itself reads them, and how they are stored."""
    with h5py.File(path) as file:
        places = [file[name]] if name in file else [g["data"] for g in file["Experiments"].values()]
        dataset = places[0]
        return dataset[()], dataset.chunks, dataset.compression, dataset.shuffle


# There and back ------------------------------------------------------------------------------------------------------


@NAMED
@pytest.mark.parametrize("compress", [None, True])
def test_datasets_come_back_exactly(folder, extension, compress):
    (path,) = emio.imsave(scan(), f"scan{extension}", compress=compress)
    assert os.listdir(folder) == [f"scan{extension}"]
    ds = emio.imload(path)
    xr.testing.assert_equal(ds.compute(), scan())
    for name, variable in scan().variables.items():
        assert ds[name].dtype.kind in "UO" or ds[name].dtype == variable.dtype, name
        assert ds[name].attrs == variable.attrs, name
    assert {k: v for k, v in ds.attrs.items() if k not in ("uri", "format", "metadata")} == {
        "acquisition": scan().attrs["acquisition"],
        "sample": {"name": "gold", "layers": [1, 2]},
        "tilts": [1, 2],
    }
    assert ds.attrs["metadata"]["fileheader"] == scan().attrs["metadata"]["fileheader"]
    assert (ds.attrs["uri"], ds.attrs["format"]) == (path, "hdf5")
    again = emio.imsave(ds, f"again{extension}")[0]
    xr.testing.assert_equal(emio.imload(again).compute(), scan())


def test_hspy_keeps_the_image_with_its_coordinates(folder):
    image = scan().image
    with pytest.warns(EmioWarning, match="axis x without coordinates"):
        (path,) = emio.imsave(image, "scan.hspy")
    ds = emio.imload(path)
    xr.testing.assert_equal(ds.image.compute(), image)
    assert all(ds[name].dtype == coord.dtype for name, coord in image.coords.items() if coord.dtype.kind not in "UO")
    assert ds.image.attrs == image.attrs


@ALL
@pytest.mark.parametrize("compress", [None, True, False])
@pytest.mark.parametrize("cut", CUTS)
def test_pixels_are_written_as_they_are(folder, extension, compress, cut):
    image = xr.DataArray(CUTS[cut](PIXELS), dims=tuple("yxvu"), name="image")
    (path,) = emio.imsave(image, f"scan{extension}", compress=compress)
    pixels, chunks, compression, shuffle = stored(path)
    np.testing.assert_array_equal(pixels, PIXELS)
    assert pixels.dtype.isnative
    gzip = compress if compress is not None else extension == ".hspy"
    assert (compression, shuffle) == (("gzip", True) if gzip else (None, False))
    in_one_piece = not gzip and extension != ".hspy" and cut not in ("within frames", "uneven")
    assert (chunks is None) == in_one_piece
    np.testing.assert_array_equal(emio.imload(path).image, PIXELS)


@ALL
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    "dtype", ["bool", "i1", "u2", "i8", "u8", "f2", "f4", "f8", "c8", "c16", ">u2", ">f4", ">c8", "g"]
)
def test_every_pixel_type_comes_back_or_is_refused(folder, extension, dtype, compress):
    pixels = (np.arange(12) % 7).reshape(3, 4).astype(dtype)
    if extension == ".nc" and dtype in ("f2", "c8", "c16", ">c8", "g"):
        with pytest.raises(ArgumentError, match=r"which netCDF does not know: save it as \.h5"):
            emio.imsave(pixels, "image.nc")
        return
    (path,) = emio.imsave(pixels, f"image{extension}", compress=compress)
    image = emio.imload(path).image
    assert image.dtype == pixels.dtype.newbyteorder("=")
    np.testing.assert_array_equal(image, pixels)


@NAMED
def test_images_without_pixels_are_written(folder, extension):
    for pixels in (np.zeros((0, 3, 4), "u2"), da.zeros((0, 3, 4), dtype="u2")):
        image = xr.DataArray(pixels, dims=tuple("iyx"), name="image")
        (path,) = emio.imsave(image, f"none{extension}", compress=True, overwrite=True)
        xr.testing.assert_equal(xr.open_dataset(path, engine="h5netcdf").image, image.compute())
    with pytest.raises(ArgumentError, match="no signal of HyperSpy"):
        emio.imsave(image, "none.hspy")


@ALL
def test_members_of_a_set_come_back_as_one(folder, extension):
    image = xr.DataArray(PIXELS, dims=tuple("yxvu"), name="image")
    image = image.assign_coords(y=[1.5, 2.5, 3.5], label=("y", ["a", "b", "c"]), v=("v", np.arange(50) ** 2))
    written = emio.imsave(image, f"scan{extension}", partition="vu")
    assert len(written) == 12
    xr.testing.assert_equal(emio.imload(f"scan.y_*{extension}").image.compute(), image)


def test_a_dataset_without_an_image_has_its_first_variable_as_one(folder):
    variables = {"high": (("y", "x"), PIXELS[0, 0]), "low": (("y", "x"), PIXELS[0, 1])}
    emio.imsave(xr.Dataset(variables), "two.h5")
    ds = emio.imload("two.h5")
    np.testing.assert_array_equal(ds.image, PIXELS[0, 0])
    np.testing.assert_array_equal(ds.low, PIXELS[0, 1])


# What other programs see ---------------------------------------------------------------------------------------------


@NAMED
def test_xarray_sees_variables_coordinates_and_times(folder, extension):
    (path,) = emio.imsave(scan(), f"scan{extension}")
    expected = scan().drop_vars("tilt angle").assign_coords(half=scan().half.astype("f4"))
    with xr.open_dataset(path, engine="h5netcdf") as ds:
        xr.testing.assert_equal(ds.drop_vars("tilt angle").compute(), expected)
        assert ds.good.dtype == bool
        assert ds.y.attrs == {"units": "nm"}
        assert (ds.image.attrs["gain"], json.loads(ds.image.attrs["nested"])) == (2.5, {"a": [1, None]})
        assert json.loads(ds.attrs["acquisition"]) == scan().attrs["acquisition"]
        assert not {"uri", "format"} & set(ds.attrs)


@pytest.mark.peers
@NAMED
def test_netcdf4_sees_variables_and_dimensions(folder, extension):
    netCDF4 = pytest.importorskip("netCDF4")
    (path,) = emio.imsave(scan(), f"scan{extension}", compress=True)
    with netCDF4.Dataset(path) as file:
        assert {name: dim.size for name, dim in file.dimensions.items()} == {"y": 3, "x": 4, "v": 50, "u": 60, "c": 4}
        np.testing.assert_array_equal(file["image"][:], PIXELS)
        assert file["image"].dimensions == ("y", "x", "v", "u")
        assert list(file["x"][:]) == ["left", "a", "b", "rechts außen"]
        times = netCDF4.num2date(file["time"][:], file["time"].units, file["time"].calendar)
        assert times[2, 3] == datetime.datetime(1970, 1, 1, 0, 0, 11)
        assert file["y"].units == "nm"


def test_axes_of_the_datasets_are_hdf5_dimension_scales(folder):
    emio.imsave(scan(), "scan.h5")
    with h5py.File("scan.h5") as file:
        assert [dim[0].name for dim in file["image"].dims] == ["/y", "/x", "/v", "/u"]
        assert file["image"].dims[0][0][()].tolist() == [0, 0.5, 1]


@pytest.mark.peers
@pytest.mark.parametrize("compress", [None, False])
def test_rosettasciio_reads_what_we_write_for_hyperspy(folder, compress):
    hspy = pytest.importorskip("rsciio.hspy")
    image = scan().image.drop_vars("x").assign_coords(v=("v", 1.0 + np.arange(50) ** 2, {"units": "1/nm"}))
    image.attrs["acquisition"] = {"beam_energy": 300.0, "title": "gold"}
    emio.imsave(image, "scan.hspy", compress=compress)
    (signal,) = hspy.file_reader("scan.hspy")
    np.testing.assert_array_equal(signal["data"], PIXELS)
    y, x, v, u = signal["axes"]
    assert (y["name"], y["scale"], y["offset"], y["units"], bool(y["navigate"])) == ("y", 0.5, 0, "nm", True)
    assert (x["name"], x["scale"], x["offset"], x["units"], bool(x["navigate"])) == ("x", 1, 0, None, True)
    assert (v["_type"], v["units"], bool(v["navigate"])) == ("DataAxis", "1/nm", False)
    assert v["axis"].tolist() == [1.0 + k**2 for k in range(50)]
    assert (u["name"], u["size"]) == ("u", 60)
    assert signal["metadata"]["General"]["title"] == "gold"
    assert signal["metadata"]["Acquisition_instrument"]["TEM"]["beam_energy"] == 300
    (lazy,) = hspy.file_reader("scan.hspy", lazy=True)
    np.testing.assert_array_equal(lazy["data"], PIXELS)


def test_colours_are_records_in_hspy(folder):
    pixels = np.arange(60, dtype="u1").reshape(4, 5, 3)
    image = xr.DataArray(pixels, dims=tuple("yxc"), coords={"c": ["r", "g", "b"]}, name="image")
    (path,) = emio.imsave(image, "colours.hspy")
    records = stored(path)[0]
    assert records.dtype.names == ("R", "G", "B")
    np.testing.assert_array_equal(records["G"], pixels[..., 1])
    xr.testing.assert_equal(emio.imload(path).image.compute(), image)


# How pixels are stored -----------------------------------------------------------------------------------------------


def test_pixels_in_one_piece_are_mapped_and_begin_at_a_page(folder):
    emio.imsave(xr.DataArray(PIXELS, dims=tuple("yxvu")), "scan.h5")
    assert isinstance(HDF5Source("scan.h5").image.pixels, Frames)
    with h5py.File("scan.h5") as file:
        assert file["image"].id.get_offset() % 4096 == 0
    content = (folder / "scan.h5").read_bytes()
    assert PIXELS.astype("<u2").tobytes() in content


@pytest.mark.parametrize(
    ("shape", "chunks", "expected"),
    [
        ((4, 4, 1024, 1024), None, (1, 2, 1024, 1024)),  # 4 MiB
        ((6, 16, 1024, 1024), (2, 15, 1024, 1024), (1, 1, 1024, 1024)),  # no two parts of 15 are equal
        ((6, 16, 1024, 1024), (3, 8, 1024, 1024), (1, 2, 1024, 1024)),
        ((40, 64, 64), (7, 64, 64), (7, 64, 64)),
        ((40, 64, 64), (7, 32, 32), (7, 32, 32)),
        ((1 << 16, 1 << 16), None, (8192, 1 << 16)),  # no chunk of HDF5 has 4 GiB
    ],
)
def test_chunks_divide_those_of_dask_and_have_a_few_mib(shape, chunks, expected):
    from intake_emio.formats._hdf5_pixels import Plan

    pixels = np.broadcast_to(np.zeros((), "u2"), shape)
    if chunks is not None:
        pixels = da.from_array(pixels, chunks=chunks)
    assert Plan.of(pixels, True).chunks == expected


def test_compressed_files_are_small(folder):
    blank = da.zeros((64, 256, 256), chunks=(16, 256, 256), dtype="u2")
    emio.imsave(blank, "blank.nc", compress=True)
    assert os.path.getsize("blank.nc") < 100_000
    assert not emio.imload("blank.nc").image.values.any()


# Laziness ------------------------------------------------------------------------------------------------------------


def counted(blocks):
    """Lazy frames that note their numbers in a list whenever they are computed."""

    def frames(block_id=None):
        blocks.append(block_id[0])
        return np.full((2, 8, 8), block_id[0], "u2")

    return da.map_blocks(frames, chunks=((2,) * 5, (8,), (8,)), dtype="u2", meta=np.empty((0, 0, 0), "u2"))


@pytest.mark.parametrize("extension", [".h5", ".nc"])
@pytest.mark.parametrize("compress", [None, True])
@pytest.mark.parametrize("cut", [{}, {"i": 3}, {"y": 3}])
def test_blocks_are_computed_once_even_if_several_variables_need_them(folder, extension, compress, cut):
    blocks = []
    frames = xr.DataArray(counted(blocks), dims=tuple("iyx"))
    emio.imsave(
        xr.Dataset({"image": frames.chunk(cut), "sum": frames.sum(("y", "x"))}), f"a{extension}", compress=compress
    )
    assert sorted(blocks) == [0, 1, 2, 3, 4]
    assert emio.imload(f"a{extension}")["sum"].values.tolist() == [64 * (k // 2) for k in range(10)]


@ALL
def test_a_failed_block_leaves_nothing_behind(folder, extension):
    def frames(block_id=None):
        if block_id[0] == 3:
            raise ZeroDivisionError("beam off")
        return np.zeros((2, 8, 8), "u2")

    pixels = da.map_blocks(frames, chunks=((2,) * 5, (8,), (8,)), dtype="u2", meta=np.empty((0, 0, 0), "u2"))
    for compress in (None, True):
        with pytest.raises(ZeroDivisionError, match="beam off"):
            emio.imsave(pixels, f"a{extension}", compress=compress)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("compress", [None, True])
def test_blocks_of_another_shape_than_announced_are_refused(folder, compress):
    pixels = da.map_blocks(
        lambda: np.zeros((2, 7), "u2"), chunks=((2, 2), (8,)), dtype="u2", meta=np.empty((0, 0), "u2")
    )
    with pytest.raises(EmioError, match=r"shape \(2, 7\), and \(2, 8\) was announced"):
        emio.imsave(pixels, "a.h5", compress=compress)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_every_scheduler_of_dask_can_write(folder, scheduler):
    np.save("scan.npy", PIXELS)
    ds = emio.imload("scan.npy", chunks={"y": 1})
    ds["sum"] = ds.image.sum(("v", "u"))
    with dask.config.set(scheduler=scheduler, num_workers=2):
        emio.imsave(ds, "plain.h5")
        emio.imsave(ds, "packed.nc", compress=True)
    for name in ("plain.h5", "packed.nc"):
        found = emio.imload(name)
        np.testing.assert_array_equal(found.image, PIXELS)
        np.testing.assert_array_equal(found["sum"], PIXELS.sum((2, 3)))


def test_a_cluster_can_write(folder):
    distributed = pytest.importorskip("distributed")
    np.save("scan.npy", PIXELS)
    image = emio.imload("scan.npy", chunks={"y": 1}).image
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        emio.imsave(image, "plain.h5")
        emio.imsave(image, "packed.hspy")
    for name in ("plain.h5", "packed.hspy"):
        np.testing.assert_array_equal(emio.imload(name).image, PIXELS)


# What lies in files --------------------------------------------------------------------------------------------------


def test_a_file_of_xarray_comes_back_with_all_its_variables(folder):
    ds = scan().drop_vars(["operator", "tilt angle", "half"])
    for name in ("c", "day"):
        ds[name].attrs = {}
    for variable in ds.variables.values():
        variable.attrs = {k: v for k, v in variable.attrs.items() if isinstance(v, str | float)}
    ds.attrs = {"history": "made by hand"}
    ds.to_netcdf("scan.nc", engine="h5netcdf")
    found = emio.imload("scan.nc")
    xr.testing.assert_equal(found.compute(), ds)
    assert (found.y.attrs, found.dose.attrs) == (ds.y.attrs, ds.dose.attrs)
    assert found.image.attrs == {"gain": 2.5}
    assert found.attrs["metadata"]["fileheader"]["attributes"] == {"history": "made by hand"}


def test_coordinates_along_the_scan_are_read_when_they_are_wanted(folder):
    emio.imsave(scan(), "scan.h5")
    ds = emio.imload("scan.h5")
    assert ds.dose.chunks is not None
    np.testing.assert_array_equal(ds.dose, scan().dose)


def test_variables_are_chosen_by_name(folder):
    emio.imsave(scan(), "scan.h5")
    ds = emio.imload("scan.h5", ds_path="navigator")
    np.testing.assert_array_equal(ds.image, scan().navigator)
    assert ds.image.dims == ("y", "x")
    assert ds.y.values.tolist() == [0, 0.5, 1]
    with pytest.raises(ArgumentError, match="no dataset 'dark'; it holds /image"):
        emio.imload("scan.h5", ds_path="dark")


def test_the_scan_can_be_another_one_than_was_saved(folder):
    emio.imsave(scan(), "scan.h5")
    ds = emio.imload("scan.h5", nav_shape=(2, 6))
    np.testing.assert_array_equal(ds.image, PIXELS.reshape(2, 6, 50, 60))
    assert list(ds.data_vars) == ["image"]


def test_what_others_have_changed_wins_over_our_account(folder):
    emio.imsave(scan(), "scan.h5")
    with h5py.File("scan.h5", "r+") as file:
        file["y"][...] = [7, 8, 10]
    assert emio.imload("scan.h5").y.values.tolist() == [7, 8, 10]
    with h5py.File("scan.h5", "r+") as file:
        del file["image"]
        file["image"] = PIXELS[..., :7]
        for k, axis in enumerate("yxv"):
            file["image"].dims[k].attach_scale(file[axis])
        file["w"] = np.arange(7.0)
        file["w"].make_scale("w")
        file["image"].dims[3].attach_scale(file["w"])
    ds = emio.imload("scan.h5")
    assert ds.image.dims == ("y", "x", "v", "w")
    assert ds.image.attrs == {}
    assert list(ds.y.values) == [7, 8, 10]


@pytest.mark.parametrize("account", ["not json", "[]", '{"version": 1}', '{"version": 1, "axes": "yx", "shape": "ab"}'])
def test_a_broken_account_does_no_harm(folder, account):
    emio.imsave(scan(), "scan.h5")
    with h5py.File("scan.h5", "r+") as file:
        file.attrs["emio"] = account
    ds = emio.imload("scan.h5")
    np.testing.assert_array_equal(ds.image, PIXELS)
    assert ds.x.values.tolist() == ["left", "a", "b", "rechts außen"]


def test_coordinates_that_lie_in_other_files_are_not_read(folder):
    (folder / "secret").write_bytes(b"password")
    with h5py.File("scan.h5", "w") as file:
        file["image"] = PIXELS[0, 0, :4, :8]
        file.create_dataset("x", (8,), "u1", external=[(str(folder / "secret"), 0, 8)])
        file["y"] = np.arange(4.0)
        file.create_dataset("note", (8,), "u1", external=[(str(folder / "secret"), 0, 8)])
        for k, axis in enumerate("yx"):
            file[axis].make_scale(axis)
            file["image"].dims[k].attach_scale(file[axis])
        file["image"].attrs["coordinates"] = "note"
        file["note"].dims[0].attach_scale(file["x"])
    with pytest.raises(StorageError, match="/note has its values in another file"):
        emio.imload("scan.h5")
    with h5py.File("scan.h5", "r+") as file:
        del file["note"]
    ds = emio.imload("scan.h5")
    assert set(ds.coords) == {"y"}


@pytest.mark.parametrize("units", ["days since the beginning", "days since 2000-01-01"])
def test_times_that_nobody_understands_stay_numbers(folder, units):
    with h5py.File("scan.h5", "w") as file:
        file["image"] = PIXELS[0, 0]
        file["y"] = np.arange(50) + 0.5
        file["y"].attrs["units"], file["y"].attrs["calendar"] = units, "of the Maya"
        file["y"].make_scale("y")
        file["x"] = np.arange(60.0)
        file["x"].make_scale("x")
        for k, axis in enumerate("yx"):
            file["image"].dims[k].attach_scale(file[axis])
    ds = emio.imload("scan.h5")
    np.testing.assert_array_equal(ds.y, np.arange(50) + 0.5)
    assert ds.y.attrs == {"units": units}


@NAMED
def test_long_facts_are_no_burden(folder, extension):
    header = {"comment": "x" * 200_000, "table": list(range(20_000))}
    ds = xr.Dataset(
        {
            "image": (
                ("i", "y", "x"),
                np.zeros((5000, 2, 2), "u1"),
                {"many": list(range(20_000)), "text": "y" * 100_000},
            )
        },
        {"timestamp": ("i", np.random.default_rng(0).random(5000)), "i": ("i", np.arange(5000) ** 2 / 7)},
        {"metadata": {"fileheader": header}},
    )
    emio.imsave(ds, f"long{extension}")
    found = emio.imload(f"long{extension}")
    xr.testing.assert_equal(found.compute(), ds)
    assert found.image.attrs == ds.image.attrs
    assert found.attrs["metadata"]["fileheader"] == header
    with h5py.File(f"long{extension}") as file:
        assert json.loads(file.attrs["emio"])["coords"] == {}  # the variables say it


@ALL
def test_odd_attributes_come_back_though_hdf5_cannot_have_them(folder, extension):
    attrs = {
        "a/b": 1,
        "NUL": "a\0b",
        "": "no name",
        "CLASS": "first",
        "coordinates": "of the stage",
        "empty": [],
        "huge": 2**70,
        "mixed": [1, "a"],
        "dtype": "bool",
        "_FillValue": 3,
        "nothing": None,
    }
    image = xr.DataArray(PIXELS[0, 0], dims=tuple("yx"), name="image", attrs=attrs)
    emio.imsave(image, f"odd{extension}")
    assert emio.imload(f"odd{extension}").image.attrs == attrs


def test_what_hdf5_cannot_hold_is_refused(folder):
    image = xr.DataArray(PIXELS[0, 0], dims=tuple("yx"), name="image")
    with pytest.raises(ArgumentError, match="cannot have the name 'a/b'"):
        emio.imsave(image.to_dataset().assign({"a/b": image}), "a.h5")
    with pytest.raises(ArgumentError, match="'note' holds <U1"):
        emio.imsave(image.to_dataset().assign(note=("y", ["a"] * 50)), "a.h5")
    with pytest.raises(ArgumentError, match="'row' holds object"):
        emio.imsave(image.assign_coords(row=("y", np.array([{}] * 50, object))), "a.nc")
    assert os.listdir(folder) == []


@ALL
def test_nothing_of_the_argument_is_changed(folder, extension):
    image = scan().image.drop_vars("x")
    before = image.copy(deep=True)
    emio.imsave(image, f"scan{extension}")
    xr.testing.assert_identical(image, before)
    assert image.encoding == {}


@NAMED
def test_saving_over_the_file_that_is_read_works(folder, extension):
    (path,) = emio.imsave(scan(), f"scan{extension}")
    ds = emio.imload(path)
    emio.imsave(ds.assign(image=ds.image + 1), path, overwrite=True)
    np.testing.assert_array_equal(emio.imload(path).image, PIXELS + 1)
