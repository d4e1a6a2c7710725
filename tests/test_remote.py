"""Files behind URLs: read by ranges, at once, and only what is needed."""

import os
import zipfile

import fsspec
import numpy as np
import pytest

import intake_emio as emio
from intake_emio.errors import MissingFileError, StorageError
from tests.encoders.blo import write_blo
from tests.encoders.raw import write_raw
from tests.servers import serving

pytest.importorskip("aiohttp")


@pytest.fixture
def patterns():
    return np.random.default_rng(0).integers(0, 255, (12, 16, 64, 64), dtype="u1")


@pytest.fixture
def folder(tmp_path, patterns):
    write_blo(tmp_path / "scan.blo", patterns, steps=(1.0, 1.0), pixels_per_cm_x100=1000)
    return tmp_path


def test_a_scan_opens_from_http_and_reads_only_what_is_asked_for(folder, patterns):
    with serving(folder) as server:
        dataset = emio.imload(f"{server.url}/scan.blo")
        opened = sum(sent for *_, sent in server.requests)
        assert opened <= 1 << 16
        np.testing.assert_array_equal(dataset.image[3, 4].values, patterns[3, 4])
        assert sum(sent for *_, sent in server.requests) - opened < 3 * 64 * 64
        np.testing.assert_array_equal(dataset.image.values, patterns)
        np.testing.assert_array_equal(dataset.image.emio.sum("yx").values, patterns.sum((0, 1), dtype="u8"))


def test_scattered_frames_are_fetched_at_the_same_time(folder, patterns):
    roi = np.zeros((12, 16), bool)
    roi[::3, ::5] = True
    with serving(folder, delay=0.05) as server:
        dataset = emio.imload(f"{server.url}/scan.blo")
        server.requests.clear()
        np.testing.assert_array_equal(dataset.emio.frames(roi).values, patterns[roi])
        assert server.most_active > 1
        assert sum(sent for *_, sent in server.requests) < 2 * roi.sum() * 64 * 64


def test_large_chunks_are_fetched_as_several_ranges(tmp_path):
    frames = np.random.default_rng(0).integers(0, 60000, (96, 256, 256), dtype="u2")
    write_raw(tmp_path / "large.bin", frames)
    with serving(tmp_path) as server:
        image = emio.imload(f"{server.url}/large.bin", dtype="u2", sig_shape=(256, 256), chunks={"i": -1}).image
        server.requests.clear()
        np.testing.assert_array_equal(image.values, frames)
        assert max(sent for *_, sent in server.requests) <= 4 << 20
        assert 3 <= len(server.requests) <= 4


def test_a_server_that_ignores_ranges_is_noticed_and_explained(folder):
    with (
        serving(folder, ranges=False) as server,
        pytest.raises(StorageError, match=r"ignores range requests.*simplecache"),
    ):
        emio.imload(f"{server.url}/scan.blo").compute()


def test_a_missing_remote_file_is_missing(folder):
    with serving(folder) as server, pytest.raises(MissingFileError, match=r"nothing\.blo"):
        emio.imload(f"{server.url}/nothing.blo")


def test_a_scan_opens_from_memory(folder, patterns):
    fsspec.filesystem("memory").pipe("/lab/scan.blo", (folder / "scan.blo").read_bytes())
    np.testing.assert_array_equal(emio.imload("memory://lab/scan.blo").image.values, patterns)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_scan_opens_from_inside_a_zip_archive(folder, patterns, packing):
    with zipfile.ZipFile(folder / "lab.zip", "w", packing) as archive:
        archive.write(folder / "scan.blo", "2024/scan.blo")
    url = f"zip://2024/scan.blo::{folder}/lab.zip"
    np.testing.assert_array_equal(emio.imload(url).image.values, patterns)


def test_a_cached_copy_serves_where_ranges_are_ignored(folder, patterns, tmp_path):
    with serving(folder, ranges=False) as server:
        url = f"simplecache::{server.url}/scan.blo"
        image = emio.imload(url, storage_options={"simplecache": {"cache_storage": str(tmp_path / "cache")}}).image
        np.testing.assert_array_equal(image.values, patterns)


def test_a_scan_opens_from_s3(folder, patterns, monkeypatch):
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        _, port = server.get_host_and_port()
        options = {"client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}"}}
        bucket = fsspec.filesystem("s3", **options)
        bucket.mkdir("lab")
        bucket.pipe("lab/scan.blo", (folder / "scan.blo").read_bytes())
        dataset = emio.imload("s3://lab/scan.blo", storage_options=options)
        np.testing.assert_array_equal(dataset.image[5:7].values, patterns[5:7])
        np.testing.assert_array_equal(dataset.image.emio.sum("vu").values, patterns.sum((2, 3), dtype="u8"))
    finally:
        server.stop()


def test_the_local_backends_are_refused_for_urls(folder):
    fsspec.filesystem("memory").pipe("/lab/scan.blo", (folder / "scan.blo").read_bytes())
    with pytest.raises(ValueError, match="local files only"):
        emio.imload("memory://lab/scan.blo", io_backend="mmap")


def test_file_urls_are_local_files(folder, patterns):
    dataset = emio.imload(f"file://{folder}/scan.blo")
    assert dataset.attrs["uri"] == os.path.join(folder, "scan.blo")
    np.testing.assert_array_equal(dataset.image.values, patterns)
