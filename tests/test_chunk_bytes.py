"""Chunks of HDF5 datasets that are read past HDF5: the same pixels as with it."""

import itertools
import zlib

import dask
import h5py
import numpy as np
import pytest

import intake_emio as emio
from intake_emio.errors import EmioWarning, StorageError
from intake_emio.formats.hdf5 import HDF5Source
from intake_emio.frames import chunk_bytes, chunked

from .encoders.hdf5 import write_velox
from .servers import serving

PIXELS = np.random.default_rng(0).poisson(3, (5, 6, 40, 50)).astype("u2")
CHUNKS = [(1, 1, 40, 50), (2, 4, 40, 50), (5, 6, 40, 50), (3, 2, 16, 32), (1, 6, 7, 50)]
FILTERS = [{}, {"shuffle": True}, {"compression": "gzip"}, {"compression": "gzip", "shuffle": True}]


@pytest.fixture(autouse=True)
def every_chunk_counts(monkeypatch):
    """Small reads, and small chunks, are usually left to HDF5."""
    monkeypatch.setattr(chunked, "MUCH_BYTES", 0)
    monkeypatch.setattr(chunk_bytes, "SMALLEST_CHUNK", 0)


@pytest.fixture
def past_hdf5(monkeypatch):
    """Fails if HDF5 is asked for pixels."""

    def read(*_):
        raise AssertionError("read by HDF5")

    monkeypatch.setattr(chunked.ChunkedDataset, "_read", read)


@pytest.fixture
def h5(tmp_path):
    return tmp_path / "scan.h5"


def written(path, pixels=PIXELS, userblock=0, **settings):
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file.create_dataset("scan", data=pixels, **settings)
    return path


# The same pixels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_any_box_has_the_pixels_that_were_written(h5, past_hdf5, chunks, filters):
    pixels = HDF5Source(written(h5, chunks=chunks, **filters)).image.pixels
    cuts = [slice(None), slice(1, None), slice(2, 5, 2), slice(4, 5), slice(0, None, 3)]
    for cut, other in itertools.product(cuts, cuts):
        for key in ((cut, other), (other, cut, other, cut), (..., cut, other), (cut, ..., other)):
            np.testing.assert_array_equal(pixels[key], PIXELS[key])
    np.testing.assert_array_equal(pixels[3, [5, 0], :, 7], PIXELS[3, [5, 0], :, 7])


@pytest.mark.parametrize("dtype", ["bool", "i1", ">u2", "<i4", ">f4", "f8", "f2", "c8", ">c16", "u8"])
def test_every_type_of_pixel(h5, past_hdf5, dtype):
    pixels = (PIXELS % 7).astype(dtype)
    written(h5, pixels, chunks=(2, 4, 20, 30), compression="gzip", shuffle=True)
    image = emio.imload(h5).image
    assert image.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(image, pixels)


def test_colours_become_an_axis(h5, past_hdf5):
    records = np.zeros((8, 9), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for k, name in enumerate("RGB"):
        records[name] = np.arange(72).reshape(8, 9) + 72 * k
    written(h5, records, chunks=(3, 5), compression="gzip", shuffle=True)
    image = emio.imload(h5).image
    assert image.dims == ("y", "x", "c")
    np.testing.assert_array_equal(image, np.arange(216).reshape(3, 8, 9).transpose(1, 2, 0))
    np.testing.assert_array_equal(image[2:7:2, 4:, 1:], image.values[2:7:2, 4:, 1:])


@pytest.mark.parametrize("userblock", [512, 4096])
def test_places_count_the_user_block(h5, past_hdf5, userblock):
    written(h5, userblock=userblock, chunks=(1, 1, 40, 50), compression="gzip")
    np.testing.assert_array_equal(emio.imload(h5).image, PIXELS)


def test_what_was_never_written_has_the_fill_value(h5, past_hdf5):
    with h5py.File(h5, "w") as file:
        scan = file.create_dataset("scan", PIXELS.shape, "u2", chunks=(1, 2, 40, 50), compression="gzip", fillvalue=7)
        scan[2:4] = PIXELS[2:4]
    expected = np.full_like(PIXELS, 7)
    expected[2:4] = PIXELS[2:4]
    with pytest.warns(EmioWarning, match="only 6 of 15 chunks"):
        image = emio.imload(h5).image
    np.testing.assert_array_equal(image, expected)


def test_chunks_that_a_filter_has_not_changed_are_marked(h5, past_hdf5):
    frames = PIXELS[0]
    shuffled = np.ascontiguousarray(frames[1].reshape(-1).view("u1").reshape(-1, 2).T).tobytes()
    with h5py.File(h5, "w") as file:
        scan = file.create_dataset("scan", frames.shape, "u2", chunks=(1, 40, 50), compression="gzip", shuffle=True)
        scan[...] = 0
        scan.id.write_direct_chunk((0, 0, 0), frames[0].tobytes(), filter_mask=0b11)
        scan.id.write_direct_chunk((1, 0, 0), shuffled, filter_mask=0b10)
        scan.id.write_direct_chunk((2, 0, 0), zlib.compress(frames[2].tobytes()), filter_mask=0b01)
        expected = scan[...]
    np.testing.assert_array_equal(expected[:3], frames[:3])
    np.testing.assert_array_equal(emio.imload(h5).image, expected)


def test_velox_frames_lie_along_the_last_axis(h5, past_hdf5):
    stack = PIXELS[0].transpose(1, 2, 0)
    write_velox(h5, [(stack, {})])
    image = emio.imload(h5).image
    assert image.dims == ("t", "y", "x")
    np.testing.assert_array_equal(image, PIXELS[0])
    np.testing.assert_array_equal(image[1::2, 5:9], PIXELS[0, 1::2, 5:9])


def test_processes_read_for_themselves(h5):
    written(h5, chunks=(1, 6, 40, 50), compression="gzip", shuffle=True)
    with dask.config.set(scheduler="processes", num_workers=2):
        np.testing.assert_array_equal(emio.imload(h5, chunks={"y": 2}).image, PIXELS)


def test_remote_chunks_are_requested_all_at_once(tmp_path, past_hdf5):
    written(tmp_path / "scan.h5", chunks=(1, 2, 40, 50), compression="gzip")
    with serving(tmp_path, delay=0.02) as server:
        image = emio.imload(f"{server.url}/scan.h5", chunks=-1).image
        np.testing.assert_array_equal(image, PIXELS)
        assert server.most_active > 1


# When HDF5 is asked --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"fletcher32": True}, {"compression": "lzf"}, {"scaleoffset": 0}], ids=str)
def test_other_filters_are_left_to_hdf5(h5, settings):
    written(h5, chunks=(1, 6, 40, 50), **settings)
    assert HDF5Source(h5).image.pixels.filters is None
    np.testing.assert_array_equal(emio.imload(h5).image, PIXELS)


def test_small_chunks_and_small_reads_are_left_to_hdf5(h5, monkeypatch):
    monkeypatch.setattr(chunked, "MUCH_BYTES", PIXELS.nbytes)
    written(h5, chunks=(1, 1, 40, 50))
    pixels = HDF5Source(h5).image.pixels
    monkeypatch.setattr(chunk_bytes.ChunkTable, "of", lambda dataset: pytest.fail("asked for all chunks"))
    np.testing.assert_array_equal(pixels[2, 3], PIXELS[2, 3])
    monkeypatch.setattr(chunk_bytes, "SMALLEST_CHUNK", 4001)
    assert HDF5Source(h5).image.pixels.filters is None


def test_hdf5_is_asked_once_where_the_chunks_are(h5, past_hdf5, monkeypatch):
    asked = []
    of = chunk_bytes.ChunkTable.of
    monkeypatch.setattr(chunk_bytes.ChunkTable, "of", lambda dataset: asked.append(1) or of(dataset))
    written(h5, chunks=(1, 1, 40, 50), compression="gzip")
    image = emio.imload(h5, chunks="frame").image
    np.testing.assert_array_equal(image, PIXELS)
    np.testing.assert_array_equal(image[::2], PIXELS[::2])
    assert asked == [1]


def test_a_file_that_has_changed_is_read_as_it_is_now(h5):
    written(h5, chunks=(1, 6, 40, 50), compression="gzip")
    pixels = HDF5Source(h5).image.pixels
    np.testing.assert_array_equal(pixels[...], PIXELS)
    written(h5, PIXELS + 1, chunks=(2, 6, 40, 50), compression="gzip", shuffle=True)
    np.testing.assert_array_equal(pixels[...], PIXELS + 1)


@pytest.mark.parametrize(
    "content", [b"no deflate stream", zlib.compress(b"too short"), zlib.compress(bytes(9999)), b"x"]
)
def test_a_damaged_chunk_is_an_error_and_touches_no_other(h5, content):
    with h5py.File(h5, "w") as file:
        scan = file.create_dataset("scan", data=PIXELS, chunks=(1, 6, 40, 50), compression="gzip", shuffle=True)
        scan.id.write_direct_chunk((2, 0, 0, 0), content)
    image = emio.imload(h5).image
    with pytest.raises(StorageError, match=r"scan\.h5: /scan cannot be read at 2:3"):
        image[2].compute()
    np.testing.assert_array_equal(image[3:], PIXELS[3:])
