"""Reading Gatan's tag trees."""

import struct

import numpy as np
import pytest

from intake_emio.errors import EmioError, HeaderError, TruncatedError
from intake_emio.formats._gatan import TagArray, looks_like_tags, read_header, read_tags, tag
from intake_emio.frames.files import File

from .encoders.k2is import write_gtg

BOTH = pytest.mark.parametrize("version", [3, 4])
ORDERS = pytest.mark.parametrize("byte_order", ["<", ">"])


def tags_of(path, tree, **settings):
    return read_tags(File(str(write_gtg(path, tree, **settings))))


@pytest.fixture
def gtg(tmp_path):
    return tmp_path / "a.gtg"


def test_entries_worked_by_hand_are_read(gtg):
    scale = bytes.fromhex("15 0005 5363616c65 25252525 00000001 00000006 0000003f")
    units = bytes.fromhex("15 0005 556e697473 25252525 00000003 00000014 00000004 00000002 6e00 6d00")
    empty = bytes.fromhex("14 0001 41 00 00 00000000")
    gtg.write_bytes(struct.pack(">IIIBBI", 3, 0, 1, 0, 1, 3) + scale + units + empty)
    assert read_tags(File(str(gtg))) == {"Scale": 0.5, "Units": "nm", "A": {}}


def test_entries_of_version_4_worked_by_hand_are_read(gtg):
    scale = bytes.fromhex("15 0005 5363616c65 0000000000000018 25252525 0000000000000001 0000000000000006 0000003f")
    empty = bytes.fromhex("14 0001 41 000000000000000a 00 00 0000000000000000")
    gtg.write_bytes(struct.pack(">IQIBBQ", 4, 0, 1, 0, 1, 2) + scale + empty)
    assert read_tags(File(str(gtg))) == {"Scale": 0.5, "A": {}}


@BOTH
@ORDERS
def test_all_kinds_of_values_are_read(gtg, version, byte_order):
    numbers = {
        code: np.dtype(code).type(-2 if code[0] == "i" else 3)
        for code in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")
    }
    tree = {
        **numbers,
        "flag": True,
        "Emission Current (µA)": "µA",
        "no text": "",
        "rare": b"text",
        "rect": (1, 2.5, True),
        "few": np.array([1, 2, 3], "i4"),
        "points": np.array([(1, 2.0), (3, 4.0)], "i2,f4"),
        "list": [{"a": 1}, {"a": 2}],
        "numbers": [5, 6],
        "deep": {"er": {"still": "here"}},
        "nothing": {},
    }
    found = tags_of(gtg, tree, version=version, byte_order=byte_order)
    assert found == {
        **{code: number.item() for code, number in numbers.items()},
        "flag": True,
        "Emission Current (µA)": "µA",
        "no text": "",
        "rare": "text",
        "rect": (1, 2.5, True),
        "few": [1, 2, 3],
        "points": [(1, 2.0), (3, 4.0)],
        "list": [{"a": 1}, {"a": 2}],
        "numbers": [5, 6],
        "deep": {"er": {"still": "here"}},
        "nothing": {},
    }
    assert tag(found, "list", 1, "a") == 2
    assert tag(found, "list", 2, "a", default=7) == 7
    assert tag(found, "deep", "er", "still", "more") is None
    assert read_header(File(str(gtg))).order == byte_order
    assert looks_like_tags(File(str(gtg)))


@BOTH
@ORDERS
def test_large_arrays_and_pixels_stay_in_the_file(gtg, version, byte_order):
    table = np.arange(5000, dtype="f4")
    pixels = np.arange(6, dtype="u2")
    tree = {
        "table": table,
        "ImageList": [{"ImageData": {"Data": pixels, "PixelDepth": 2}}],
        "complex": np.zeros(500, "f4,f4"),
        "novel": "x" * 40_000,
        "behind": 7,
    }
    found = tags_of(gtg, tree, version=version, byte_order=byte_order)
    assert found["behind"] == 7
    for stored, left in ((table, found["table"]), (pixels, tag(found, "ImageList", 0, "ImageData", "Data"))):
        assert isinstance(left, TagArray)
        assert left.count == len(stored)
        read = np.frombuffer(gtg.read_bytes(), left.dtype, left.count, left.offset)
        assert read.tolist() == stored.tolist()
    assert found["complex"].dtype.names == ("f0", "f1")
    assert isinstance(found["novel"], TagArray)


def test_the_file_is_read_in_blocks_and_past_large_arrays(gtg, monkeypatch):
    write_gtg(gtg, {"big": np.zeros(1 << 20, "f8"), **{f"tag {k}": k for k in range(300)}})
    file, reads = File(str(gtg)), []
    read = File.read
    monkeypatch.setattr(File, "read", lambda self, start, n: reads.append(n) or read(self, start, n))
    assert read_tags(file)["tag 299"] == 299
    assert sum(reads) < 200_000
    assert len(reads) < 10


def raw(*entries, version=3, count=None):
    """Root group with entries given as bytes."""
    count = len(entries) if count is None else count
    head = struct.pack(">IIIBBI" if version == 3 else ">IQIBBQ", version, 0, 1, 0, 0, count)
    return head + b"".join(entries)


def value(*words, data=b"", name=b"a", version=3):
    body = b"%%%%" + np.array([len(words), *words], f">u{4 if version == 3 else 8}").tobytes() + data
    length = b"" if version == 3 else len(body).to_bytes(8, "big")
    return b"\x15" + len(name).to_bytes(2, "big") + name + length + body


def test_repeated_and_missing_names_are_kept_apart(gtg):
    gtg.write_bytes(raw(value(10, data=b"\1"), value(10, data=b"\2"), value(10, data=b"\3", name=b"")))
    assert read_tags(File(str(gtg))) == {"a": 1, "a[1]": 2, "[2]": 3}


@BOTH
def test_arrays_of_arrays_are_read(gtg, version):
    gtg.write_bytes(raw(value(20, 20, 10, 2, 3, data=bytes(range(6)), version=version), version=version))
    assert read_tags(File(str(gtg))) == {"a": [[0, 1], [2, 3], [4, 5]]}


def test_unknown_types_are_passed_over_in_version_4_only(gtg):
    for version in (3, 4):
        unknown = value(77, data=b"????", name=b"odd", version=version)
        gtg.write_bytes(raw(unknown, value(10, data=b"\1", version=version), version=version))
        if version == 4:
            assert read_tags(File(str(gtg))) == {"odd": None, "a": 1}
        else:
            with pytest.raises(HeaderError, match="odd"):
                read_tags(File(str(gtg)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "version"),
        (bytes.fromhex("00000005") + bytes(40), "version is 5"),
        (b"\x00\x3d\x00\x00" + bytes(40), "expected 3 or 4"),
        (struct.pack(">IIIBBI", 3, 0, 2, 0, 0, 0), "byte order"),
        (raw(count=2**32 - 1), "do not fit"),
        (raw(count=2**63, version=4), "do not fit"),
        (raw(bytes(40), count=2), "the end of the file at byte 18"),
        (raw(b"\x07" + bytes(40), count=1), "kind 7"),
        (raw(b"\x15\xff\xff" + bytes(40), count=1), "name of a tag"),
        (raw(b"\x15\0\1a....\0\0\0\1\0\0\0\2\0\0"), "%%%%"),
        (raw(b"\x15\0\1a%%%%" + b"\xff" * 40), "needs"),
        (raw(value(20, 7, 2**32 - 1, data=bytes(16))), "needs"),
        (raw(value(20, 7, 2**63, data=bytes(16), version=4), version=4), "needs"),
        (raw(value(20, 15, 0, 1000, 0, 2, 5, data=bytes(16))), "unknown type"),
        (raw(value(18, 2**31, data=b"x")), "needs"),
        (raw(value(*[20] * 40, data=bytes(16))), "unknown type"),
        (raw(b"\x15\0\1a" + (2**40).to_bytes(8, "big") + bytes(40), version=4, count=1), "needs"),
        (raw(*[b"\x14\0\0\0\0\0\0\0\1"] * 70, count=1), "deeper than 64"),
    ],
)
def test_hostile_files_are_refused(gtg, content, message):
    gtg.write_bytes(content)
    with pytest.raises(EmioError, match=message) as caught:
        read_tags(File(str(gtg)))
    assert "a.gtg" in str(caught.value)


@BOTH
def test_every_truncation_is_refused(gtg, version):
    write_gtg(gtg, {"a": {"b": "text", "c": (1, 2)}, "d": np.arange(3)}, version=version)
    whole = gtg.read_bytes()[:-8]  # zero bytes at the end may be missing
    for size in range(len(whole)):
        gtg.write_bytes(whole[:size])
        with pytest.raises((HeaderError, TruncatedError)):
            read_tags(File(str(gtg)))
    gtg.write_bytes(whole)
    assert read_tags(File(str(gtg)))["d"] == [0, 1, 2]


@BOTH
def test_damaged_bytes_never_do_worse_than_an_error(gtg, version):
    write_gtg(gtg, {"a": {"b": "text", "c": (1, 2)}, "d": np.arange(3), "e": [1.5, True]}, version=version)
    whole = gtg.read_bytes()
    for place in range(len(whole)):
        for new in (0, 20, 255):
            gtg.write_bytes(whole[:place] + bytes([new]) + whole[place + 1 :])
            try:
                read_tags(File(str(gtg)))
            except EmioError:
                continue


def test_real_tag_trees_are_read_to_the_end(real_files):
    files = real_files("dm")
    names = [p for p in files.folder.rglob("*") if p.suffix.lower() in (".dm3", ".dm4")]
    assert names
    for name in names:
        assert isinstance(tag(read_tags(File(str(name))), "ImageList"), list), name
