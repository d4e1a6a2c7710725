"""Axis names, orders and calibration, and the way between labelled and bare arrays."""

import copy
import string

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import intake_emio as emio
from intake_emio import get_axes, get_spacing, get_spacing_units, to_numpy, to_xarray
from intake_emio.axes import Labels, Scale, arrange, check_axes, convert_length, default_axes, recalibrate


def labelled(dims, shape=None, **coords):
    """An image of zeros; coordinates as values or (values, units)."""
    given = {
        axis: (axis, value[0], {"units": value[1]}) if isinstance(value, tuple) else (axis, value)
        for axis, value in coords.items()
    }
    return xr.DataArray(np.zeros(shape or (4,) * len(dims)), dims=tuple(dims), coords=given)


# get_axes ------------------------------------------------------------------------------------------------------------

SHAPES = [
    ((1,), "x"),
    ((1, 2), "yx"),
    ((3, 3), "yx"),
    ((1, 2, 9), "zyx"),
    ((1, 2, 3), "yxc"),
    ((3, 1, 2), "cyx"),
    ((3, 4, 3), "cyx"),
    ((1, 3, 2), "zyx"),
    ((3, 2, 3, 3), "czyx"),
    ((1, 2, 3, 4, 5), "tczyx"),
    ((1, 2, 3, 4, 5, 6), "itczyx"),
]


@pytest.mark.parametrize(("shape", "axes"), SHAPES)
@pytest.mark.parametrize(
    "kind", [tuple, lambda shape: np.zeros(shape, "u1"), lambda shape: da.zeros(shape, dtype="f4")]
)
def test_axes_of_bare_images_are_guessed_from_the_shape(kind, shape, axes):
    assert get_axes(kind(shape)) == axes


@pytest.mark.parametrize("dtype", ["u2", "f8", "i4", "bool"])
def test_only_pixel_types_of_rgb_images_are_taken_for_rgb(dtype):
    assert get_axes(np.zeros((4, 5, 3), dtype)) == "zyx"


@pytest.mark.parametrize(
    ("number", "axes"), [(1, "x"), (2, "yx"), (3, "zyx"), (4, "czyx"), (5, "tczyx"), (6, "itczyx")]
)
def test_axes_are_guessed_from_their_number(number, axes):
    assert get_axes(number) == get_axes(np.int64(number)) == axes


@pytest.mark.parametrize("image", [0, -1, 7, (), (1,) * 7, np.zeros(()), np.zeros((1,) * 7), "yx", None, object()])
def test_axes_that_cannot_be_guessed_are_an_error(image):
    with pytest.raises(ValueError, match="axes"):
        get_axes(image)


@pytest.mark.parametrize("dims", ["x", "z", "yx", "iyz", "yxvu", "ityxvu"])
def test_labelled_images_know_their_axes(dims):
    image = labelled(dims, (3,) * len(dims))
    assert get_axes(image) == dims
    assert get_axes(image.to_dataset(name="anything")) == dims
    assert get_axes(image.chunk()) == dims


@pytest.mark.parametrize("dims", [("row", "x"), ("dim_0", "dim_1"), ("y", "1"), ()])
def test_axes_must_be_single_letters(dims):
    with pytest.raises(ValueError, match="axes"):
        get_axes(xr.DataArray(np.zeros((2,) * len(dims)), dims=dims))


def test_the_image_of_a_dataset_is_the_one_called_image_or_the_only_one_with_all_axes():
    scan, profile = labelled("zyx", (4, 5, 6)), labelled("x", (6,))
    assert get_axes(xr.Dataset({"profile": profile, "scan": scan})) == "zyx"
    assert get_axes(xr.Dataset({"scan": scan, "image": profile})) == "x"
    with pytest.raises(ValueError, match=r"a.*b"):
        get_axes(xr.Dataset({"a": scan, "b": scan}))


# get_spacing, get_spacing_units --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "spacing"),
    [
        ([0, 2.5, 5, 7.5], 2.5),
        ([10, 12, 14, 16], 2.0),
        ([3, 2, 1, 0], -1.0),
        (np.arange(4, dtype="u1"), 1.0),
        (np.arange(4, dtype="f4") * np.float32(0.1), pytest.approx(0.1, rel=1e-6)),
        (np.array([6, 4, 2, 0], "u1"), -2.0),
        ([0, 1, 3, 4], None),
        ([1, 1, 1, 1], None),
        ([0, np.nan, 2, 3], None),
        (list("abcd"), None),
        (np.arange(4).astype("M8[s]"), None),
    ],
)
def test_the_spacing_is_the_step_of_even_coordinates(values, spacing):
    assert get_spacing(labelled("yx", x=values), "x") == spacing


def test_the_spacing_of_all_axes_leaves_out_those_that_count_or_name():
    image = labelled("itczyx", (2,) * 6, t=[0, 0.1], z=[0, 2], x=[0, 0.125], c=[1, 2], i=[0, 1])
    assert get_spacing(image) == (0.1, 2, None, 0.125)
    assert get_spacing_units(image) == (None,) * 4
    assert get_spacing(labelled("cx")) == (None,)


def test_spacing_and_units_are_those_of_the_wanted_axes_in_their_order():
    image = labelled("yxvu", y=([0, 2, 4, 6], "nm"), x=[0, 3, 6, 9], u=([0, 1, 2, 3], "cm"))
    assert get_spacing(image) == (2, 3, None, 1)
    assert get_spacing_units(image) == ("nm", None, None, "cm")
    assert get_spacing(image, "uy") == (1, 2)
    assert get_spacing_units(image, "uxy") == ("cm", None, "nm")
    assert (get_spacing(image, "v"), get_spacing_units(image, "u")) == (None, "cm")


def test_the_spacing_of_a_dataset_is_that_of_its_image():
    image = labelled("yx", y=([0, 2, 4, 6], "nm"))
    ds = xr.Dataset({"image": image, "profile": labelled("y", y=([0, 2, 4, 6], "nm"))})
    assert (get_spacing(ds), get_spacing_units(ds)) == ((2, None), ("nm", None))


def test_an_axis_of_one_pixel_has_no_spacing_but_units():
    image = labelled("yx", (1, 4), y=([5.0], "nm"))
    assert (get_spacing(image, "y"), get_spacing_units(image, "y")) == (None, "nm")


@pytest.mark.parametrize("function", [get_spacing, get_spacing_units])
def test_bare_arrays_have_no_calibration(function):
    with pytest.raises(ValueError, match="to_xarray"):
        function(np.zeros((2, 2)))


# to_xarray -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "spacing", "expected"),
    [
        ("tcyx", (0.1, 0.2, 0.3), {"t": 0.1, "y": 0.2, "x": 0.3}),
        ("tcyx", (0.2, 0.3), {"y": 0.2, "x": 0.3}),
        ("tcyx", (None, 0.3), {"x": 0.3}),
        ("itczyx", (0.1, 0.4, 0.2, 0.3), {"t": 0.1, "z": 0.4, "y": 0.2, "x": 0.3}),
        ("itczyx", [0.1, 0.2, 0.3], {"z": 0.1, "y": 0.2, "x": 0.3}),
        ("yxvu", {"y": 2, "u": 0.5, "x": None}, {"y": 2, "u": 0.5}),
        ("yx", None, {}),
    ],
)
def test_spacing_is_given_by_axis_or_in_their_order_ending_with_the_last(axes, spacing, expected):
    image = to_xarray(np.zeros((3,) * len(axes)), spacing, axes)
    assert "".join(image.dims) == axes
    assert set(image.coords) == set(expected)
    for axis, step in expected.items():
        np.testing.assert_allclose(image.coords[axis], [0, step, 2 * step])


def test_units_go_with_spacing_and_coordinates():
    image = to_xarray(
        np.zeros((2, 3, 4)),
        spacing=(None, 0.5),
        axes="tyx",
        coords={"t": [1, 10], "c": ["a", "b"]},
        spacing_units={"t": "s", "x": "nm", "y": "nm"},
    )
    assert {axis: image.coords[axis].attrs.get("units") for axis in image.coords} == {"t": "s", "x": "nm"}
    assert get_spacing_units(to_xarray(np.zeros((2, 2)), (1, 2), spacing_units=("µm", "nm"))) == ("µm", "nm")


def test_coordinates_win_over_spacing_and_those_of_other_axes_are_left_out():
    image = to_xarray(np.zeros((2, 3)), spacing=(5, 5), coords={"y": [0, 7], "z": [1, 2, 3, 4]})
    np.testing.assert_array_equal(image.y, [0, 7])
    assert set(image.coords) == {"y", "x"}


@pytest.mark.parametrize(
    "values",
    [
        np.array(["2024-02-29", "2024-03-01"], "M8[ns]"),
        np.array([1, 2], "i2"),
        np.array([0.5, 1.5], "f4"),
        np.array(["Fe", "Ni"]),
        np.array([True, False]),
    ],
    ids=lambda values: str(values.dtype),
)
def test_coordinates_keep_their_type(values):
    image = to_xarray(np.zeros((2, 3)), axes="tx", coords={"t": values})
    assert image.t.dtype == values.dtype
    np.testing.assert_array_equal(image.t, values)


def test_an_array_is_neither_copied_nor_computed():
    pixels = np.zeros((2, 3))
    assert np.shares_memory(to_xarray(pixels).values, pixels)
    lazy = da.zeros((2, 3))
    assert to_xarray(lazy).data is lazy


@pytest.mark.parametrize("pixels", [np.zeros((2, 3)), da.zeros((2, 3)), [[0, 1, 2], [3, 4, 5]]])
def test_an_image_has_the_name_and_attributes_it_was_given_and_no_other(pixels):
    assert (to_xarray(pixels).name, to_xarray(pixels).attrs) == (None, {})
    image = to_xarray(pixels, name="haadf", attrs={"sample": "gold"})
    assert (image.name, image.attrs) == ("haadf", {"sample": "gold"})


def test_a_labelled_image_keeps_what_it_knows():
    image = (
        labelled("yx", y=([10, 12, 14, 16], "nm"), x=([0, 1, 2, 3], "nm")).rename("haadf").assign_attrs(sample="gold")
    )
    again = to_xarray(image, spacing_units={"x": "µm"}, attrs={"operator": "me"})
    assert (again.name, again.attrs) == ("haadf", {"sample": "gold", "operator": "me"})
    assert get_spacing_units(again) == ("nm", "µm")
    np.testing.assert_array_equal(again.y, image.y)
    assert to_xarray(image, name="bf").name == "bf"


def test_new_spacing_or_coordinates_leave_the_units_of_a_labelled_image():
    image = labelled("yx", y=([0, 1, 2, 3], "nm"), x=([0, 1, 2, 3], "nm"))
    again = to_xarray(image, spacing={"y": 5}, coords={"x": [0, 1, 4, 9]})
    assert get_spacing_units(again) == ("nm", "nm")
    np.testing.assert_array_equal(again.y, [0, 5, 10, 15])
    np.testing.assert_array_equal(again.x, [0, 1, 4, 9])


def test_axes_of_a_labelled_image_can_be_renamed():
    image = to_xarray(labelled("yx", y=([0, 1, 2, 3], "nm")), axes="vu")
    assert (image.dims, get_spacing_units(image)) == (("v", "u"), ("nm", None))


def test_a_labelled_image_is_not_changed():
    image = labelled("yx", y=([0, 1, 2, 3], "nm")).rename("haadf").assign_attrs(sample="gold")
    before = copy.deepcopy(image)
    to_xarray(image, (2, 2), "vu", {"v": [1, 2, 3, 5]}, ("m", "m"), "bf", {"operator": "me"})
    to_xarray(image, name="bf", attrs={"operator": "me"}).attrs["sample"] = "silver"
    xr.testing.assert_identical(image, before)
    assert image.name == "haadf"


def test_the_image_of_a_dataset_is_labelled():
    image = labelled("yx")
    assert to_xarray(xr.Dataset({"image": image, "other": image})).name == "image"
    with pytest.raises(ValueError, match="which variable"):
        to_xarray(xr.Dataset({"a": image, "b": image}))


@pytest.mark.parametrize(
    "arguments",
    [
        {"axes": "y"},
        {"axes": "yxc"},
        {"axes": "yy"},
        {"axes": "y1"},
        {"spacing": (1, 2, 3)},
        {"spacing": {"z": 1}},
        {"spacing": (0, 1)},
        {"spacing": (float("inf"), 1)},
        {"coords": {"y": [1]}},
        {"spacing_units": ("a", "b", "c")},
    ],
)
def test_labels_that_do_not_fit_are_refused(arguments):
    with pytest.raises(emio.EmioError):
        to_xarray(np.zeros((2, 3)), **arguments)


# to_numpy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        np.asarray,
        np.ndarray.tolist,
        lambda pixels: da.from_array(pixels, chunks=1),
        xr.DataArray,
        lambda pixels: xr.DataArray(da.from_array(pixels)),
        lambda pixels: xr.Dataset({"haadf": (("y", "x"), pixels)}),
        lambda pixels: xr.Dataset({"image": (("y", "x"), pixels), "profile": ("x", pixels[0])}),
    ],
)
def test_pixels_come_out_as_a_numpy_array(wrap):
    pixels = np.arange(6).reshape(2, 3)
    found = to_numpy(wrap(pixels))
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, pixels)


def test_pixels_in_memory_are_not_copied():
    pixels = np.arange(6).reshape(2, 3)
    assert np.shares_memory(to_numpy(to_xarray(pixels)), pixels)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_pixels_survive_the_way_to_labels_and_back(shape):
    pixels = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(to_numpy(to_xarray(pixels)), pixels)


# Orders and names ----------------------------------------------------------------------------------------------------

axes_strings = st.lists(st.sampled_from(string.ascii_lowercase), unique=True, min_size=1, max_size=6).map("".join)


@given(axes_strings, axes_strings | st.none())
def test_arranged_axes_are_the_same_ones_named_first_and_the_rest_in_their_order(axes, order):
    arranged = arrange(axes, order)
    named = [axis for axis in order or "" if axis in axes]
    assert sorted(arranged) == sorted(axes)
    assert list(arranged[: len(named)]) == named
    assert [axis for axis in axes if axis not in named] == list(arranged[len(named) :])


@given(axes_strings, axes_strings)
def test_arranging_twice_changes_nothing_more(axes, order):
    assert arrange(arrange(axes, order), order) == arrange(axes, order)


@given(st.text("abxyYé1 -_", max_size=5))
def test_axes_are_accepted_if_they_are_unique_letters(text):
    if text and all(letter.isalpha() for letter in text) and len(set(text)) == len(text):
        assert check_axes(text, len(text)) == text
        with pytest.raises(emio.EmioError, match="axes"):
            check_axes(text, len(text) + 1)
    else:
        with pytest.raises(emio.EmioError, match="axes"):
            check_axes(text, 5)


@pytest.mark.parametrize(
    ("navigation", "signal", "axes"),
    [
        (0, 2, "yx"),
        (1, 2, "iyx"),
        (2, 2, "yxvu"),
        (3, 2, "iyxvu"),
        (4, 2, "ityxvu"),
        (0, 1, "x"),
        (1, 1, "iu"),
        (2, 1, "yxu"),
        (0, 3, "cyx"),
        (1, 3, "icyx"),
        (2, 3, "yxcvu"),
    ],
)
def test_axes_have_default_names(navigation, signal, axes):
    assert default_axes(navigation, signal) == axes


@pytest.mark.parametrize(("navigation", "signal"), [(5, 2), (2, 4), (1, 0)])
def test_too_many_axes_must_be_named_by_the_user(navigation, signal):
    with pytest.raises(emio.EmioError, match="metadata"):
        default_axes(navigation, signal)


@pytest.mark.parametrize(
    ("value", "units", "wanted", "expected"),
    [
        (2.5, "µm", "nm", 2500),
        (2.5, "um", "nm", 2500),
        (0.3, "nm", "Å", 3),
        (1, "m", "cm", 100),
        (0.1, "cm", "cm", 0.1),
        (14, "µm", "cm", 0.0014),
        (1, "1/nm", "nm", None),
        (1, None, "nm", None),
    ],
)
def test_lengths_are_converted_without_stray_digits(value, units, wanted, expected):
    assert convert_length(value, units, wanted) == expected


# Calibration ---------------------------------------------------------------------------------------------------------

steps = st.floats(1e-6, 1e6) | st.floats(-1e6, -1e-6)
units = st.sampled_from(["nm", "1/nm", "s", None])
scales = st.builds(Scale, steps, units, st.floats(-1e3, 1e3))


@st.composite
def calibrated(draw):
    axes = draw(axes_strings)
    shape = [draw(st.integers(1, 5)) for _ in axes]
    return axes, shape, {axis: draw(scales) for axis in axes if draw(st.booleans())}


@given(calibrated())
def test_without_the_users_word_the_files_stands(image):
    axes, shape, known = image
    assert recalibrate(axes, shape, known) == known
    assert recalibrate(axes, shape, known, spacing={}, spacing_units={}, coords={}) == known


@given(calibrated(), st.data())
def test_the_users_spacing_wins_and_units_and_start_stay(image, data):
    axes, shape, known = image
    axis, step = data.draw(st.sampled_from(axes)), data.draw(steps)
    found = recalibrate(axes, shape, known, spacing={axis: step})
    old = known.get(axis, Scale(1))
    size = shape[axes.index(axis)]
    np.testing.assert_allclose(found[axis].values(size), [old.origin + k * step for k in range(size)])
    assert found[axis].units == old.units
    assert {other: scale for other, scale in found.items() if other != axis} == {
        other: scale for other, scale in known.items() if other != axis
    }


@given(calibrated(), st.data())
def test_the_users_coordinates_win_over_everything(image, data):
    axes, shape, known = image
    axis = data.draw(st.sampled_from(axes))
    size = shape[axes.index(axis)]
    values = data.draw(st.lists(st.integers() | st.floats(allow_nan=False), min_size=size, max_size=size))
    found = recalibrate(axes, shape, known, spacing={axis: 2.0}, spacing_units={axis: "eV"}, coords={axis: values})
    np.testing.assert_array_equal(found[axis].values(size), np.asarray(values))
    assert found[axis].units == "eV"


@given(calibrated(), st.data())
def test_none_takes_a_calibration_away(image, data):
    axes, shape, known = image
    axis = data.draw(st.sampled_from(axes))
    for word in ({"spacing": {axis: None}}, {"coords": {axis: None}}):
        assert recalibrate(axes, shape, known, **word) == {a: c for a, c in known.items() if a != axis}


@given(calibrated(), st.sampled_from(["spacing", "spacing_units", "coords"]))
def test_axes_that_the_image_lacks_are_refused(image, word):
    axes, shape, known = image
    stranger = next(letter for letter in "ABC" if letter not in axes)
    with pytest.raises(emio.EmioError, match=stranger):
        recalibrate(axes, shape, known, **{word: {stranger: None}})


def test_recalibrating_changes_nothing_in_place():
    known = {"y": Scale(2.0, "nm")}
    recalibrate("yx", (2, 2), known, spacing={"y": None}, coords={"x": [1, 2]})
    assert known == {"y": Scale(2.0, "nm")}


@given(scales, st.integers(1, 20), st.data())
def test_part_of_a_scale_has_the_coordinates_of_what_was_picked(scale, size, data):
    start, stop = sorted([data.draw(st.integers(0, size)), data.draw(st.integers(0, size))])
    step = data.draw(st.integers(1, 5))
    picks = [slice(start, stop, step), tuple(data.draw(st.lists(st.integers(0, size - 1), max_size=5)))]
    for pick in picks:
        wanted = scale.values(size)[list(pick) if isinstance(pick, tuple) else pick]
        part = scale.part(pick, size)
        np.testing.assert_allclose(part.values(len(wanted)), wanted, rtol=1e-9, atol=1e-6)
        assert part.units == scale.units


def test_part_of_some_labels_are_those_that_were_picked():
    labels = Labels(("Fe", "Co", "Ni"), None)
    assert labels.part((2, 0), 3).values(2).tolist() == ["Ni", "Fe"]
    assert labels.part(slice(1, 3, 1), 3).values(2).tolist() == ["Co", "Ni"]
    with pytest.raises(emio.EmioError, match="3 coordinates"):
        labels.values(4)
