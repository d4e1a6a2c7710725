"""The grammar of file names in a set: coordinates become names, and names coordinates."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intake_emio.errors import ArgumentError
from intake_emio.partition import check_stem, escaped, member_name, parse_name, texts_of, value_of, values_of


def texts(values, dtype=None, **options):
    """Texts of an axis with these coordinates."""
    values = np.asarray(values, dtype)
    return texts_of("a", xr.DataArray(values, dims="a", coords={"a": values}).a, values.size, **options)


# Coordinates to names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 10], ["03", "10"]),
        ([-3, 10], ["-03", "10"]),
        ([7], ["7"]),
        (np.array([2**64 - 1, 1], "u8"), ["18446744073709551615", "00000000000000000001"]),
        ([0, 2.5, 5, 7.5, 10], ["00.0", "02.5", "05.0", "07.5", "10.0"]),
        ([0, 0.3, 0.6], ["0.0", "0.3", "0.6"]),
        ([-1.0, 0.0, 1.0], ["-1.0", "0.0", "1.0"]),
        ([-10.0, 0.0, 10.0], ["-10.0", "00.0", "10.0"]),
        ([0, 1 / 3, 2 / 3], ["0.0000", "0.3333", "0.6667"]),
        (np.arange(3) * 1e-12, ["0.0", "1e-12", "2e-12"]),
        ([0.35], ["0.35"]),
        ([-2.0], ["-2.0"]),
        ([1e-9, 1.0, 5.0], ["1e-09", "1.0", "5.0"]),
        (np.array([0.1, 0.5, 2], "f4"), ["0.1", "0.5", "2.0"]),
        ([False, True], ["false", "true"]),
        (["actin", "dna"], ["actin", "dna"]),
        (["a/b", "c.d", "e f"], ["a%2Fb", "c%2Ed", "e%20f"]),
        (["-x", "+y_1"], ["-x", "+y_1"]),
        (["03", "true", "1e5"], ["%303", "%74rue", "%31e5"]),
        (["20240131T235959"], ["%320240131T235959"]),
        (["Å", "µm", "γ"], ["Å", "µm", "γ"]),
        (["100%"], ["100%25"]),
        (np.array(["2024-01-31T23:59:59"], "M8[ns]"), ["20240131T235959"]),
        (np.array(["2024-01-31T23:59:59.25", "2024-02-01"], "M8[ns]"), ["20240131T235959.250", "20240201T000000.000"]),
        (np.array([1500, -250], "m8[ms]"), ["1.5s", "-0.25s"]),
    ],
)
def test_coordinates_become_texts(values, expected):
    assert texts(values) == expected


def test_without_a_coordinate_the_index_is_taken():
    assert texts_of("i", None, 11)[:2] == ["00", "01"]


def test_the_index_can_be_asked_for():
    assert texts([0.5, 7.0], by_index=True) == ["0", "1"]
    assert texts(["a", "a"], by_index=True) == ["0", "1"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([3, 3, 5], "3 twice"),
        (["A", "a"], "told apart"),
        ([1.0, np.nan], "finite"),
        ([1.0, np.inf], "finite"),
        (["a", ""], "empty"),
        (np.array(["2024-01-01", "NaT"], "M8[ns]"), "NaT"),
        ([1 + 2j], "complex"),
        (np.array([{}, 2], dtype=object), "object"),
    ],
)
def test_what_names_cannot_tell_is_refused(values, says):
    with pytest.raises(ArgumentError, match=says):
        texts(values)


def test_a_name_has_its_groups_between_stem_and_extension():
    groups = [("var", "image"), ("i", "03"), ("c", "actin")]
    assert member_name("scan", groups, ".tif") == "scan.var_image.i_03.c_actin.tif"


@pytest.mark.parametrize("stem", ["scan.i_03", "a.c_x.b", "scan.var_image", "x.Y_1"])
def test_a_stem_that_reads_as_a_group_is_refused(stem):
    with pytest.raises(ArgumentError, match="another"):
        check_stem(stem)


@pytest.mark.parametrize("stem", ["scan", "scan.v2", "a_b", "i_03", "scan.ab_3", "scan.i_"])
def test_other_stems_are_fine(stem):
    check_stem(stem)


# Names to coordinates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "extension", "stem", "groups"),
    [
        ("frames.y_00.0.x_12.8.tif", ".tif", "frames", [("y", "00.0"), ("x", "12.8")]),
        ("scan.var_image.i_03.c_actin.tif", ".tif", "scan", [("var", "image"), ("i", "03"), ("c", "actin")]),
        ("series.t_0.ome.tif", ".ome.tif", "series", [("t", "0")]),
        ("S.I_03.tif", ".tif", "S", [("i", "03")]),
        ("a.v2.t_20240131T235959.250.npy", ".npy", "a.v2", [("t", "20240131T235959.250")]),
        ("plain.npy", ".npy", "plain", []),
        ("y_03.npy", ".npy", "y_03", []),
    ],
)
def test_names_are_taken_apart(name, extension, stem, groups):
    parsed = parse_name(name, extension)
    assert (parsed.stem, list(parsed.groups)) == (stem, groups)


@pytest.mark.parametrize(
    ("found", "dtype", "values"),
    [
        (["03", "10"], "i8", [3, 10]),
        (["-3", "+4"], "i8", [-3, 4]),
        (["1.0", "2.5"], "f8", [1.0, 2.5]),
        (["1", "2.5"], "f8", [1.0, 2.5]),
        (["1e-09"], "f8", [1e-9]),
        (["20240131T235959.250"], "M8[ns]", [np.datetime64("2024-01-31T23:59:59.250", "ns")]),
        (["true", "false"], "?", [True, False]),
        (["1.5s"], "m8[ns]", [np.timedelta64(1500, "ms")]),
        (["a%2Fb", "%303"], "<U3", ["a/b", "03"]),
        (["1", "b"], "<U1", ["1", "b"]),
        (["20240131T235959", "3"], "<U15", ["20240131T235959", "3"]),
        (["20241331T235959"], "<U15", ["20241331T235959"]),
        (["99999999999999999999"], "<U20", ["99999999999999999999"]),
    ],
)
def test_texts_become_coordinates_of_one_type(found, dtype, values):
    result = values_of(found)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, np.array(values, dtype))


def test_numbers_can_be_left_as_text():
    assert values_of(["03", "10"], as_text=True).tolist() == ["03", "10"]


# There and back ------------------------------------------------------------------------------------------------------

UNIQUE = {"unique": True}
COORDINATES = st.one_of(
    hnp.arrays("i8", st.integers(1, 6), elements=st.integers(-(2**62), 2**62), **UNIQUE),
    hnp.arrays("u2", st.integers(1, 6), **UNIQUE),
    hnp.arrays("f8", st.integers(1, 6), elements=st.floats(allow_nan=False, allow_infinity=False), **UNIQUE),
    hnp.arrays("f4", st.integers(1, 6), elements=st.floats(allow_nan=False, allow_infinity=False, width=32), **UNIQUE),
    hnp.arrays(
        "M8[ns]",
        st.integers(1, 6),
        elements=st.integers(-(2**60), 2**60).map(lambda n: np.datetime64(n, "ns")),
        **UNIQUE,
    ),
    hnp.arrays(
        "m8[ns]",
        st.integers(1, 6),
        elements=st.integers(-(2**60), 2**60).map(lambda n: np.timedelta64(n, "ns")),
        **UNIQUE,
    ),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=6).map(
        lambda words: np.array(list({w.casefold().rstrip("\0"): w.rstrip("\0") for w in words}.values()), dtype=str)
    ),
)


@given(COORDINATES)
def test_coordinates_survive_in_names_of_files(values):
    assume(values.dtype.kind != "U" or all(str(value) for value in values))
    try:
        written = texts(values)
    except ArgumentError as error:
        assume("twice" not in str(error) and "told apart" not in str(error))
        raise
    names = [member_name("a.b", [("var", "image"), ("i", text), ("x", "0.5")], ".ome.tif") for text in written]
    assert not any("/" in name or ":" in name or "\0" in name for name in names)
    read = [dict(parse_name(name, ".ome.tif").groups)["i"] for name in names]
    assert read == written
    back = values_of(read)
    if values.dtype.kind in "f":
        steps = np.abs(np.diff(values.astype("f8")))
        within = steps.min() / 999 if steps.size else 0
        np.testing.assert_allclose(back.astype(values.dtype), values, rtol=1e-7, atol=within)
    else:
        assert back.astype(values.dtype).tolist() == values.tolist()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_text_survives_escaping(text):
    assert value_of(escaped(text)) == text


@given(st.floats(-1e6, 1e6, allow_nan=False), st.floats(1e-6, 1e4), st.integers(2, 40))
def test_even_calibrations_have_texts_of_one_width_in_order(start, step, count):
    values = start + step * np.arange(count)
    assume(len(set(values.tolist())) == count and abs(start) < 1e7 * step)
    written = texts(values)
    bare = {len(text.lstrip("-")) for text in written}
    assert len(bare) == 1
    np.testing.assert_allclose(np.array(written, "f8"), values, rtol=0, atol=step / 999)
