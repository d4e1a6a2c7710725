"""Datasets as Zarr groups: what lies in the store, what comes back, what is refused, and where stores may be."""

import json
import warnings
from pathlib import Path

import dask.array as da
import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr

import intake_emio as emio
from intake_emio.errors import ArgumentError, EmioError
from intake_emio.formats._zarr_layout import Wishes
from intake_emio.formats.zarr import save

VERSIONS = pytest.mark.parametrize("zarr_format", [2, 3])
SCAN = np.arange(3 * 4 * 5 * 6, dtype="u2").reshape(3, 4, 5, 6)


def image(pixels=SCAN, dims="yxvu", **coords):
    return xr.DataArray(pixels, dims=tuple(dims), name="image", coords=coords)


def stored(path, name="image"):
    return zarr.open_array(Path(path) / name, mode="r")


def files(path):
    """Files of pixels of the image, by their name in the array."""
    root = Path(path) / "image"
    names = [p for p in root.rglob("*") if p.is_file() and not p.name.startswith((".", "zarr.json"))]
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(names)}


# Chunks and shards ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dask_chunks", "expected"),
    [
        ((2, 3, 5, 6), (2, 3, 5, 6)),
        (((1, 2), (2, 1, 1), (5,), (3, 3)), (1, 2, 5, 3)),
        (((2, 1), (1, 3), (5,), (6,)), (2, 1, 5, 6)),
    ],
)
@VERSIONS
def test_chunks_of_dask_are_stored_as_they_are_and_uneven_ones_like_the_first(
    tmp_path, dask_chunks, expected, zarr_format
):
    emio.imsave(image(da.from_array(SCAN, chunks=dask_chunks)), tmp_path / "a.zarr", zarr_format=zarr_format)
    assert stored(tmp_path / "a.zarr").chunks == expected
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "a.zarr").image, SCAN)


def test_arrays_in_memory_are_cut_into_a_few_mebibytes_of_whole_frames(tmp_path):
    emio.imsave(image(np.zeros((3, 100, 128, 128), "u2")), tmp_path / "a.zarr")
    assert stored(tmp_path / "a.zarr").chunks == (1, 100, 128, 128)
    emio.imsave(image(np.zeros((2, 300, 128, 128), "u2")), tmp_path / "b.zarr")
    assert stored(tmp_path / "b.zarr").chunks == (1, 128, 128, 128)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ({"y": 1}, (1, 4, 5, 6)),
        ({"y": 2, "u": 4}, (2, 4, 5, 4)),
        ("{'x': 3}", (3, 3, 5, 6)),
        ((1, 2, 3, 4), (1, 2, 3, 4)),
        ([3, -1, None, 100], (3, 4, 5, 6)),
        (2, (2, 2, 2, 2)),
        ("frame", (1, 1, 5, 6)),
        ({"x": "auto"}, (3, 2, 5, 6)),
        ("auto", (2, 2, 5, 6)),
    ],
)
@pytest.mark.parametrize("lazy", [True, False])
def test_the_user_may_say_how_large_chunks_are(tmp_path, chunks, expected, lazy):
    if not lazy and "auto" in str(chunks):
        pytest.skip("what is automatic is tested above")
    emio.imsave(image(da.from_array(SCAN, chunks=(2, 2, 5, 6)) if lazy else SCAN), tmp_path / "a.zarr", chunks=chunks)
    assert stored(tmp_path / "a.zarr").chunks == expected
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "a.zarr").image, SCAN)


def test_sizes_are_those_of_the_image_and_other_variables_follow(tmp_path):
    ds = xr.Dataset({"image": image(), "navigator": (("y", "x"), SCAN[..., 0, 0])})
    emio.imsave(ds, tmp_path / "a.zarr", chunks=(2, 1, 5, 6))
    assert (stored(tmp_path / "a.zarr").chunks, stored(tmp_path / "a.zarr", "navigator").chunks) == (
        (2, 1, 5, 6),
        (2, 1),
    )


@pytest.mark.parametrize("compress", [None, True, False])
@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize(
    ("chunks", "shards", "chunk", "shard"),
    [
        ((1, 1, 5, 6), (2, 4, 5, 6), (1, 1, 5, 6), (2, 4, 5, 6)),
        ("frame", {"y": 1}, (1, 1, 5, 6), (1, 4, 5, 6)),
        ({"x": 3, "y": 2}, -1, (2, 3, 5, 6), (4, 6, 5, 6)),
        ({"v": 2}, {"v": 4}, (3, 4, 2, 6), (3, 4, 4, 6)),
    ],
)
def test_shards_hold_whole_chunks(tmp_path, chunks, shards, chunk, shard, lazy, compress):
    pixels = da.from_array(SCAN, chunks=(1, 3, 2, 6)) if lazy else SCAN
    emio.imsave(image(pixels), tmp_path / "a.zarr", chunks=chunks, shards=shards, compress=compress)
    array = stored(tmp_path / "a.zarr")
    assert (array.chunks, array.shards) == (chunk, shard)
    assert len(files(tmp_path / "a.zarr")) == np.prod([-(-n // s) for n, s in zip(SCAN.shape, shard, strict=True)])
    np.testing.assert_array_equal(array[...], SCAN)


def test_more_than_ten_thousand_chunks_are_put_into_shards(tmp_path):
    pixels = np.arange(10_001 * 4, dtype="u2").reshape(10_001, 2, 2)
    emio.imsave(image(pixels, "iyx"), tmp_path / "a.zarr", chunks="frame", compress=False)
    array = stored(tmp_path / "a.zarr")
    assert (array.chunks, array.shards) == ((1, 2, 2), (10_001, 2, 2))
    assert len(files(tmp_path / "a.zarr")) == 1
    np.testing.assert_array_equal(array[...], pixels)
    assert Wishes(chunks="frame").layout("iyx", pixels[:10_000], "iyx").shards is None


def test_shards_of_large_arrays_are_a_quarter_of_a_gibibyte(tmp_path):
    pixels = da.zeros((512, 512, 256, 256), dtype="u2", chunks=(1, 1, 256, 256))
    layout = Wishes().layout("yxvu", pixels, "yxvu")
    assert (layout.chunks, layout.shards) == ((1, 1, 256, 256), (4, 512, 256, 256))


@pytest.mark.parametrize("chunks", [(1, 1, 5, 6), (3, 4, 2, 2), (2, 3, 5, 6)])
@pytest.mark.parametrize("shards", [None, (3, 4, 6, 6)])
def test_every_block_is_computed_once_however_it_is_stored(tmp_path, chunks, shards):
    computed = []

    def block(pixels, block_info=None):
        computed.append(block_info[0]["chunk-location"])
        return pixels

    pixels = da.from_array(SCAN, chunks=(2, 2, 5, 3)).map_blocks(block, dtype="u2", meta=np.empty((0,) * 4, "u2"))
    emio.imsave(image(pixels), tmp_path / "a.zarr", chunks=chunks, shards=shards if chunks != (2, 3, 5, 6) else None)
    assert sorted(computed) == sorted(np.ndindex(2, 2, 1, 2))
    np.testing.assert_array_equal(stored(tmp_path / "a.zarr")[...], SCAN)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"chunks": {"z": 2}}, "axis 'z', but the image has 'yxvu'"),
        ({"chunks": (1, 2)}, "2 entries for the 4 axes"),
        ({"chunks": {"y": (1, 2)}}, "one size"),
        ({"chunks": {"y": 0}}, "does not fit axis 'y'"),
        ({"chunks": "large"}, "chunks must be"),
        ({"chunks": {"u": 4}, "shards": {"u": 5}}, "shards of 5 along 'u' must be a multiple of the chunks of 4"),
        ({"shards": {"y": 2}, "zarr_format": 2}, "version 2 of Zarr has no shards"),
        ({"zarr_format": 4}, "one of 2, 3"),
    ],
)
def test_chunks_that_do_not_fit_are_refused(tmp_path, options, says):
    with pytest.raises(ArgumentError, match=says):
        emio.imsave(image(), tmp_path / "a.zarr", **options)
    assert list(tmp_path.iterdir()) == []


# What lies in the files ----------------------------------------------------------------------------------------------


@VERSIONS
def test_uncompressed_chunks_are_the_bytes_of_the_pixels(tmp_path, zarr_format):
    pixels = np.array([[1, 2, 3], [4, 5, 0x1234]], ">u2")
    emio.imsave(image(pixels, "yx"), tmp_path / "a.zarr", compress=False, chunks=2, zarr_format=zarr_format)
    first, second = {2: ("0.0", "0.1"), 3: ("c/0/0", "c/0/1")}[zarr_format]
    whole = bytes([1, 0, 2, 0, 4, 0, 5, 0])
    edge = bytes([3, 0, 0, 0, 0x34, 0x12, 0, 0])  # filled up with zeros
    assert files(tmp_path / "a.zarr") == {first: whole, second: edge}
    np.testing.assert_array_equal(stored(tmp_path / "a.zarr")[...], pixels)


@VERSIONS
@pytest.mark.parametrize(
    ("compress", "dtype", "codec"),
    [
        (None, "u2", {"zstd"}),
        (True, "u2", {"blosc", "bitshuffle"}),
        (True, "f4", {"blosc", "shuffle"}),
        (False, "u2", set()),
    ],
)
def test_compression_is_one_of_three(tmp_path, compress, dtype, codec, zarr_format):
    emio.imsave(image(SCAN.astype(dtype)), tmp_path / "a.zarr", compress=compress, zarr_format=zarr_format)
    found = {}
    if zarr_format == 3:
        _, *codecs = json.loads((tmp_path / "a.zarr/image/zarr.json").read_text())["codecs"]
        for each in codecs:
            found = {"id": each["name"], **each["configuration"]}
    else:
        found = json.loads((tmp_path / "a.zarr/image/.zarray").read_text())["compressor"] or {}
        found["shuffle"] = {2: "bitshuffle", 1: "shuffle"}.get(found.get("shuffle"))
    assert {found.get("id"), found.get("shuffle")} - {None} == codec
    if compress is not False:
        assert found.get("clevel", found.get("level")) == (5 if compress else 3)
    np.testing.assert_array_equal(stored(tmp_path / "a.zarr")[...], SCAN.astype(dtype))


@VERSIONS
@pytest.mark.parametrize("compress", [None, False])
@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"])
def test_every_type_of_pixels_comes_back(tmp_path, dtype, compress, zarr_format):
    pixels = (SCAN % 7).astype(dtype)
    lazy = da.from_array(pixels, chunks=(2, 3, 5, 4))
    emio.imsave(image(lazy), tmp_path / "a.zarr", compress=compress, zarr_format=zarr_format)
    for found in (emio.imload(tmp_path / "a.zarr").image, xr.open_zarr(tmp_path / "a.zarr").image):
        assert found.dtype == pixels.dtype
        np.testing.assert_array_equal(found, pixels)


@VERSIONS
def test_blank_pixels_stay_what_they_are(tmp_path, zarr_format):
    pixels = np.zeros((2, 3, 3), "f4")
    pixels[0, 1] = np.nan, np.inf, -0.0
    emio.imsave(image(pixels, "iyx"), tmp_path / "a.zarr", zarr_format=zarr_format)
    found = xr.open_zarr(tmp_path / "a.zarr").image.values
    np.testing.assert_array_equal(found.view("u4"), pixels.view("u4"))


@VERSIONS
def test_all_metadata_are_valid_json_and_the_groups_are_consolidated(tmp_path, zarr_format):
    def strict(word):
        raise AssertionError(word)

    ds = xr.Dataset({"image": image().assign_attrs(bad=float("nan"), also=[np.inf, np.float32("nan")])})
    ds.attrs = {"bytes": b"ab\0", "when": np.datetime64("2024-02-29"), "numbers": np.arange(3), "tuple": (1, 2.5)}
    ds = ds.assign_coords(w=("x", [1.0, np.nan, 3.0, np.inf]))
    emio.imsave(ds, tmp_path / "a.zarr", zarr_format=zarr_format)
    for path in (tmp_path / "a.zarr").rglob("*"):
        if path.name in ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"):
            json.loads(path.read_text(), parse_constant=strict)
    root = zarr.open_consolidated(tmp_path / "a.zarr")
    assert sorted(root.array_keys()) == ["image", "w"]
    assert dict(root.attrs) == {"bytes": "ab", "when": "2024-02-29", "numbers": [0, 1, 2], "tuple": [1, 2.5]}
    assert root["image"].attrs["bad"] is None
    assert root["image"].attrs["also"] == [None, None]
    np.testing.assert_array_equal(emio.imload(tmp_path / "a.zarr").w, ds.w)


# What comes back -----------------------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("lazy", [True, False])
def test_variables_coordinates_and_attributes_come_back_exactly(tmp_path, lazy, zarr_format):
    times = np.array(["2024-02-29T23:59:59.5", "2024-03-01", "2024-03-04"], "M8[ms]")
    clock = np.arange(12).reshape(3, 4).astype("M8[s]")
    ds = xr.Dataset(
        {"image": image(SCAN).assign_attrs(gain=2.5), "mask": (("v", "u"), np.eye(5, 6, dtype=bool))},
        coords={
            "y": ("y", times),
            "x": ("x", ["left", "a", "ß", "right"], {"long_name": "position"}),
            "v": ("v", np.arange(5) * 0.25, {"units": "1/nm", "long_name": "frequency"}),
            "u": ("u", np.array([1, 2, 4, 8, 16, 32], "u1")),
            "clock": (("y", "x"), da.from_array(clock, chunks=1) if lazy else clock),
            "weight": (("y", "x"), da.ones((3, 4), chunks=2) if lazy else np.ones((3, 4))),
            "dwell": ("x", np.array([1, 2, 3, 4], "m8[us]")),
            "valid": ("x", [True, False, True, True]),
            "exposure": ((), 0.25, {"units": "s", "source": "header"}),
            "label": "gold",
        },
        attrs={"acquisition": {"beam_energy": 300.0}, "metadata": {"fileheader": {"SW": 3}}, "sample": "gold"},
    )
    emio.imsave(ds.chunk(y=1) if lazy else ds, tmp_path / "a.zarr", zarr_format=zarr_format)
    found = emio.imload(tmp_path / "a.zarr").compute()
    for name in ("uri", "format", "metadata"):
        found.attrs.pop(name)
    xr.testing.assert_identical(found, ds.compute().drop_attrs(deep=False).assign_attrs(found.attrs))
    assert found.attrs == {"acquisition": {"beam_energy": 300.0}, "sample": "gold"}
    assert {n: v.dtype for n, v in found.variables.items()} == {n: v.dtype for n, v in ds.variables.items()}
    assert emio.imload(tmp_path / "a.zarr").attrs["metadata"]["spacing"] == {"v": 0.25}


def test_the_user_has_the_last_word_on_coordinates_with_attributes(tmp_path):
    x = ("x", np.arange(6) * 0.5, {"units": "nm", "long_name": "position"})
    emio.imsave(image(SCAN[0, 0], "yx", x=x), tmp_path / "a.zarr")
    changed = emio.imload(tmp_path / "a.zarr", metadata={"spacing": {"x": 2.0}}).image
    assert (changed.x.values[1], changed.x.attrs) == (2.0, {"units": "nm"})
    renamed = emio.imload(tmp_path / "a.zarr", metadata={"axes": "zt"}).image
    assert (renamed.dims, renamed.t.attrs["long_name"]) == (("z", "t"), "position")
    assert emio.imload(tmp_path / "a.zarr", partition={"x": 2}).x.attrs == {"units": "nm", "long_name": "position"}


def test_saving_says_nothing_that_a_user_could_not_change(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        emio.imsave(image(x=["a", "b", "c", "d"], y=np.array([b"a", b"b", b"c"])), tmp_path / "a.zarr")


@pytest.mark.filterwarnings("ignore:Consolidated metadata", "ignore:saving variable")
def test_what_zarr_wrote_before_does_not_tell_how_it_is_stored_now(tmp_path):
    xr.Dataset({"image": image(SCAN / 4)}).to_zarr(
        tmp_path / "a.zarr",
        encoding={"image": {"chunks": (3, 2, 5, 6), "shards": (3, 4, 5, 6), "scale_factor": 0.25, "dtype": "i4"}},
    )
    emio.imsave(xr.open_zarr(tmp_path / "a.zarr"), tmp_path / "b.zarr", chunks={"y": 1})
    assert (stored(tmp_path / "b.zarr").chunks, stored(tmp_path / "b.zarr").shards) == ((1, 4, 5, 6), None)
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "b.zarr", mask_and_scale=False).image, SCAN / 4)


# Refusals ------------------------------------------------------------------------------------------------------------


def test_an_index_of_several_levels_is_refused_with_the_way_out(tmp_path):
    stacked = image().stack(i=("y", "x")).transpose("i", "v", "u")
    with pytest.raises(EmioError, match=r"'i' is a MultiIndex.*reset_index\('i'\)"):
        emio.imsave(stacked, tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []


def test_chunks_that_no_compressor_takes_are_refused(tmp_path):
    large = da.zeros((4, 1 << 30), dtype="u1", chunks=(2, 1 << 20))
    with pytest.raises(ArgumentError, match="2 GiB"):
        emio.imsave(image(large, "yx"), tmp_path / "a.zarr", chunks=-1)
    assert Wishes(compress=False, chunks=-1).layout("yx", large, "yx").chunks == (4, 1 << 30)
    assert Wishes().layout("yx", large.rechunk(-1), "yx").chunks == (1, 1 << 28)


def test_text_among_python_objects_is_text(tmp_path):
    emio.imsave(image(x=np.array(["a", "bb", "c", ""], object)), tmp_path / "a.zarr")
    assert emio.imload(tmp_path / "a.zarr").x.values.tolist() == ["a", "bb", "c", ""]


def test_python_objects_are_refused(tmp_path):
    with pytest.raises(EmioError, match=r"'x' holds object.*astype"):
        emio.imsave(image(x=np.array(["a", None, 1, 2.0], object)), tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []


# Remote stores -------------------------------------------------------------------------------------------------------


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    yield fs
    if fs.exists("/lab"):
        fs.rm("/lab", recursive=True)


def dataset(pixels=SCAN):
    return xr.Dataset({"image": image(pixels), "sum": (("y", "x"), SCAN.sum((2, 3)))}, {"x": [1.0, 2.0, 4.0, 8.0]})


@VERSIONS
@pytest.mark.parametrize("compress", [None, False])
@pytest.mark.parametrize("lazy", [True, False])
def test_stores_are_written_to_any_file_system_the_root_last(memory, lazy, compress, zarr_format):
    ds = dataset(da.from_array(SCAN, chunks=(1, 4, 5, 6)) if lazy else SCAN)
    options = {"compress": compress, "zarr_format": zarr_format}
    assert emio.imsave(ds, "memory://lab/a.zarr", **options) == ["memory://lab/a.zarr"]
    xr.testing.assert_equal(emio.imload("memory://lab/a.zarr").compute(), ds.compute())
    xr.testing.assert_equal(xr.open_zarr("memory://lab/a.zarr").compute(), ds.compute())
    created = {name: memory.info(name)["created"] for name in memory.find("/lab/a.zarr")}
    assert max(created, key=created.__getitem__) == f"/lab/a.zarr/{'zarr.json' if zarr_format == 3 else '.zgroup'}"


def test_a_remote_store_is_replaced_only_if_asked_for(memory):
    emio.imsave(dataset(), "memory://lab/a.zarr", chunks="frame")
    with pytest.raises(FileExistsError, match=r"a\.zarr"):
        emio.imsave(dataset(), "memory://lab/a.zarr")
    smaller = dataset(SCAN + 1).isel(y=slice(1), u=slice(3))
    emio.imsave(smaller, "memory://lab/a.zarr", overwrite=True, chunks="frame")
    xr.testing.assert_equal(emio.imload("memory://lab/a.zarr").compute(), smaller)
    assert len([name for name in memory.find("/lab/a.zarr/image") if "/c/" in name]) == 4


def test_a_remote_store_that_fails_leaves_nothing(memory):
    def fails(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 2:
            raise RuntimeError("detector on fire")
        return block

    pixels = da.from_array(SCAN, chunks=(1, 4, 5, 6)).map_blocks(fails, dtype="u2", meta=np.empty((0,) * 4, "u2"))
    with pytest.raises(RuntimeError, match="on fire"):
        emio.imsave(dataset(pixels), "memory://lab/a.zarr")
    assert not memory.exists("/lab/a.zarr")


def test_stores_are_written_to_s3(monkeypatch):
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        options = {"client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}"}}
        fsspec.filesystem("s3", **options).mkdir("lab")
        ds = dataset(da.from_array(SCAN, chunks=(1, 4, 5, 6)))
        save(ds, "s3://lab/a.zarr", storage_options=options)
        found = emio.imload("s3://lab/a.zarr", storage_options=options)
        xr.testing.assert_equal(found.compute(), ds.compute())
    finally:
        server.stop()
