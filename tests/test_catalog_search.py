"""Searching catalogs by what they say of their entries."""

import ast
import datetime
import json
import operator
import textwrap

import intake
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import intake_emio as emio
from intake_emio.catalogs.expressions import parse
from intake_emio.cli import app
from intake_emio.errors import ArgumentError, ArgumentTypeError, CatalogError, MissingFileError

from .encoders.blo import write_blo
from .encoders.npy import write_npy

PIXELS = np.zeros((3, 4, 5, 5), "u1")

CATALOG = """
metadata: {version: 1, name: lab}
sources:
  gold_1:
    description: Gold on carbon
    driver: emio_blo
    args: {uri: '{{ CATALOG_DIR }}/a/gold 1.blo'}
    metadata:
      sample: Gold
      emio:
        format: blo
        axes: yxvu
        shape: [64, 64, 96, 96]
        dtype: uint8
        spacing: {y: 2.5, x: 2.5}
        spacing_units: {y: nm, x: nm}
        acquisition: {beam_energy: 200.0, start_time: '2024-05-01T10:00:00', title: "{{ '{' }}{ odd }}"}
        size: 1000
        modified: '2025-01-01T00:00:00Z'
        files: [gold 1.blo]
        state: abc
        written: {description: x, args: y}
  gold_2:
    description: Gold, another day
    driver: emio_mib
    args: {uri: /data/gold_2.mib}
    metadata:
      emio:
        format: mib
        axes: iyx
        shape: [9, 256, 256]
        dtype: uint16
        acquisition: {beam_energy: 80, start_time: '2024-06-01T10:00:00+02:00'}
        size: 5
        modified: '2025-01-01T00:00:00Z'
  silver:
    driver: emio_npy
    args: {uri: '{{ CATALOG_DIR }}/silver.npy'}
    metadata: {emio: {format: npy, axes: yx, shape: [256, 256], dtype: float32, modified: '2023-01-01T00:00:00Z'}}
  by_hand: {driver: emio_raw, args: {uri: x.raw, dtype: u2}, metadata: {beam_energy: 300, tags: [Gold, test]}}
  older: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/older.yml'}}
"""

OLDER = """
sources:
  carbon: {driver: emio_npy, args: {uri: c.npy}, metadata: {emio: {format: npy, acquisition: {beam_energy: 200}}}}
  itself: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/older.yml'}}
  above: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/lab.yml'}}
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "lab.yml").write_text(CATALOG, encoding="utf-8")
    (tmp_path / "older.yml").write_text(OLDER, encoding="utf-8")
    return tmp_path / "lab.yml"


def emio_says(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stdout


# Facts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"beam_energy": 200}, {"gold_1", "older.carbon"}),
        ({"beam_energy": 200.00001}, {"gold_1", "older.carbon"}),
        ({"beam_energy": 300}, {"by_hand"}),
        ({"beam_energy": "200"}, set()),
        ({"beam_energy": None, "format": "npy"}, {"silver"}),
        ({"format": "MIB"}, {"gold_2"}),
        ({"format": {"mib", "blo"}}, {"gold_1", "gold_2"}),
        ({"format": "b*"}, {"gold_1"}),
        ({"name": "gold*"}, {"gold_1", "gold_2"}),
        ({"text": "*gold*"}, {"gold_1", "gold_2", "by_hand"}),
        ({"shape": (256, 256)}, {"silver"}),
        ({"shape": [None, 256, 256]}, {"gold_2"}),
        ({"ndim": 4}, {"gold_1"}),
        ({"spacing": {"y": 2.5}}, {"gold_1"}),
        ({"sample": "gold"}, {"gold_1"}),
        ({"title": "{{ odd }}"}, {"gold_1"}),
        ({"tags": ["gold", "TEST"]}, {"by_hand"}),
        ({"uri": "*/a/gold 1.blo"}, {"gold_1"}),
        ({"driver": "emio_raw"}, {"by_hand"}),
        ({"convergence_angle": 3}, set()),
        ({"after": "2024-05-02"}, {"gold_2"}),
        ({"after": "2024-05-01"}, {"gold_1", "gold_2"}),
        ({"before": "2024-05-01"}, {"silver"}),
        ({"before": datetime.date(2024, 5, 2), "after": datetime.datetime(2024, 1, 1)}, {"gold_1"}),
        ({"after": "2024-06-01T08:00:00"}, {"gold_2"}),
        ({"after": "2024-06-01T08:00:01"}, set()),
        ({}, {"gold_1", "gold_2", "silver", "by_hand", "older.carbon"}),
    ],
)
def test_entries_are_found_by_their_facts_in_files_and_open_catalogs_alike(path, wanted, expected):
    found = {name for name in emio.search(path, **wanted) if not name.startswith("older.above")}
    assert found == expected
    assert set(emio.search(intake.open_catalog(str(path)), **wanted)) >= expected


def test_what_was_found_in_a_file_are_its_entries(path):
    found = emio.search(path, name="gold_2")
    assert found == {"gold_2": yaml.safe_load(CATALOG)["sources"]["gold_2"]}


def test_what_was_found_in_an_open_catalog_can_be_opened(tmp_path):
    (tmp_path / "sub").mkdir()
    write_blo(tmp_path / "sub" / "gold.blo", PIXELS, beam_energy=200_000)
    write_npy(tmp_path / "stack.npy", PIXELS)
    catalog = emio.build_catalog(tmp_path, tmp_path / "c.yml", nested=True)
    found = emio.search(catalog, beam_energy=200)
    assert isinstance(found, intake.catalog.Catalog)
    assert list(found) == ["sub.gold"]
    assert found["sub.gold"].to_dask().image.shape == PIXELS.shape
    assert list(emio.search(found, "ndim > 2")) == ["sub.gold"]
    assert list(emio.search(found, "ndim > 5")) == []


def test_catalogs_of_version_2_are_searched_too(tmp_path):
    write_blo(tmp_path / "gold.blo", PIXELS, beam_energy=200_000)
    write_npy(tmp_path / "stack.npy", PIXELS)
    catalog = emio.build_catalog(tmp_path, tmp_path / "c.yaml", version=2)
    found = emio.search(catalog, beam_energy=200)
    assert list(found.aliases) == ["gold"]
    assert found.gold.read().image.shape == PIXELS.shape
    assert list(emio.search(tmp_path / "c.yaml", "format == 'npy'")) == ["stack"]
    assert emio.to_dataframe(catalog).loc["gold", "beam_energy"] == 200


def test_searching_opens_no_data_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yml").write_text(
        textwrap.dedent(
            """
            plugins: {source: [{module: antigravity}]}
            sources:
              evil: {driver: subprocess.Popen, args: {args: [touch, executed]}, metadata: {sample: gold}}
              worse: {driver: emio, args: {uri: "{{ ''.__class__ }}"}, metadata: {sample: gold}}
            """
        )
    )
    assert list(emio.search("c.yml", sample="gold")) == ["evil", "worse"]
    emio_says("search", "c.yml", "sample == 'gold'")
    assert [one.name for one in tmp_path.iterdir()] == ["c.yml"]


def test_nested_catalogs_that_are_gone_or_broken_are_noted(path):
    (path.parent / "older.yml").write_text("sources: [")
    with pytest.warns(emio.EmioWarning, match=r"older cannot be searched.*older\.yml"):
        assert "gold_1" in emio.search(path)
    (path.parent / "older.yml").unlink()
    with pytest.warns(emio.EmioWarning, match="older cannot be searched"):
        assert "gold_1" in emio.search(intake.open_catalog(str(path)))


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"beam_enrgy": 200}, ArgumentError, "do you mean beam_energy"),
        ({"xyz_123": 200}, ArgumentError, "known are"),
        ({"after": "yesterday"}, ArgumentError, "after must be a date"),
        ({"before": 2024.5}, ArgumentError, "before must be a date"),
    ],
)
def test_what_nobody_knows_is_refused(path, arguments, error, says):
    with pytest.raises(error, match=says):
        emio.search(path, **arguments)


def test_only_catalogs_are_searched(tmp_path):
    (tmp_path / "text.yml").write_text("just text")
    with pytest.raises(CatalogError, match=r"text\.yml"):
        emio.search(tmp_path / "text.yml")
    with pytest.raises(MissingFileError, match=r"none\.yml"):
        emio.search(tmp_path / "none.yml")
    with pytest.raises(ArgumentTypeError, match="int"):
        emio.search(3)


# Tables --------------------------------------------------------------------------------------------------------------


def test_a_table_has_a_row_for_each_entry_and_a_column_for_each_fact(path):
    table = emio.to_dataframe(path)
    assert isinstance(table, pd.DataFrame)
    assert {"gold_1", "older.carbon"} <= set(table.index)
    gold = table.loc["gold_1"]
    assert (gold["format"], gold["shape"], gold["ndim"]) == ("blo", (64, 64, 96, 96), 4)
    assert (gold["spacing.y"], gold["spacing_units.y"], gold["sample"]) == (2.5, "nm", "Gold")
    assert gold["uri"] == str(path.parent / "a" / "gold 1.blo")
    assert pd.isna(table.loc["silver", "beam_energy"])
    assert table.beam_energy.max() == 300
    assert not {"state", "written", "text", "name"} & set(table.columns)


def test_a_table_of_nothing_is_empty(tmp_path):
    (tmp_path / "c.yml").write_text("sources: {}")
    assert emio.to_dataframe(tmp_path / "c.yml").empty


# Conditions ----------------------------------------------------------------------------------------------------------

FACTS = {
    "name": "Gold_3",
    "beam_energy": 200.0,
    "size": 10**12,
    "shape": [64, 64, 96, 96],
    "spacing": {"y": 2.5, "odd name": 1},
    "dtype": "uint8",
    "tags": ["a", "B"],
    "raw": True,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("beam_energy > 80 and 'gold' in name", True),
        ("beam_energy > 80 and 'silver' in name", False),
        ("beam_energy > 80 or 'silver' in name", True),
        ("not beam_energy > 80", False),
        ("80 < beam_energy <= 200", True),
        ("80 < beam_energy < 200", False),
        ("beam_energy >= 200 and beam_energy <= 200.0000001", True),
        ("beam_energy != 200", False),
        ("name == 'gold_3'", True),
        ("name < 'h'", True),
        ("dtype in ['uint8', 'uint16']", True),
        ("dtype in ('uint16',)", False),
        ("dtype not in ['uint16']", True),
        ("'b' in tags", True),
        ("'y' in spacing", True),
        ("shape == [64, 64, 96, 96]", True),
        ("shape == (64, 64)", False),
        ("shape[0] == 64 and shape[-1] == 96", True),
        ("shape[9] == 64", False),
        ("spacing.y < 3", True),
        ("spacing['odd name'] == 1", True),
        ("spacing.z < 3", False),
        ("spacing.z == None", True),
        ("spacing.z is None", True),
        ("name is not None", True),
        ("missing > 3", False),
        ("missing < 3", False),
        ("not missing > 3", True),
        ("missing == None", True),
        ("missing != 3", True),
        ("missing", False),
        ("raw", True),
        ("raw == True", True),
        ("raw == 1", False),
        ("name > 3", False),
        ("name.x.y == 1", False),
        ("size > 1e11", True),
        (f"size < {'9' * 400}", True),
        (f"beam_energy == {'9' * 400}", False),
        ("beam_energy > -5", True),
        (" ( 'GOLD' in name ) ", True),
        ("'gold' in\nname", None),
    ],
)
def test_conditions_mean_what_they_say(text, expected):
    if expected is None:
        with pytest.raises(ArgumentError):
            parse(text)
    else:
        assert parse(text).matches(FACTS) is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "beam_energy >",
        "beam_energy > 80 and",
        "__import__('os').system('touch executed')",
        "name.upper() == 'GOLD'",
        "(lambda: 1)()",
        "[x for x in name]",
        "{'a': 1}",
        "{1, 2}",
        "x := 3",
        "x = 3",
        "import os",
        "1 + 1",
        "2 ** 999999999",
        "-name",
        "~3",
        "f'{name}'",
        "b'bytes' == name",
        "3j",
        "...",
        "name if raw else 3",
        "shape[0:2]",
        "shape[name]",
        "shape[None]",
        "await name",
        "*name",
        "name\0",
        "'unclosed",
        "1_000_000 if",
        "(" * 300 + "1" + ")" * 300,
        "not " * 400 + "raw",
        "[" * 100 + "]" * 100,
        "a" * 5000,
        "x" + ".y" * 900,
        "#",
        "name; raw",
    ],
)
def test_what_is_no_condition_is_refused_and_not_run(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError):
        parse(text)
    assert not list(tmp_path.iterdir())


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_refused(text):
    try:
        condition = parse(text)
    except ArgumentError:
        return
    assert condition.matches(FACTS) in (True, False)


COMPARISONS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
values = st.integers(-3, 3)


@st.composite
def conditions(draw, depth=3):
    """Condition on the integers a, b and c."""
    if depth == 0 or draw(st.booleans()):
        return f"{draw(st.sampled_from('abc'))} {draw(st.sampled_from(list(COMPARISONS)))} {draw(values)}"
    inner = conditions(depth=depth - 1)
    form = draw(st.sampled_from(["({} and {})", "({} or {})", "not ({})"]))
    return form.format(draw(inner), draw(inner))


@given(conditions(), values, values, values)
def test_conditions_on_integers_mean_what_python_means(text, a, b, c):
    facts = {"a": a, "b": b, "c": c}

    def truth(node):
        match node:
            case ast.BoolOp():
                parts = [truth(one) for one in node.values]
                return all(parts) if isinstance(node.op, ast.And) else any(parts)
            case ast.UnaryOp():
                return not truth(node.operand)
        symbol = {"Lt": "<", "LtE": "<=", "Gt": ">", "GtE": ">=", "Eq": "==", "NotEq": "!="}[type(node.ops[0]).__name__]
        return COMPARISONS[symbol](facts[node.left.id], ast.literal_eval(node.comparators[0]))

    assert parse(text).matches(facts) is truth(ast.parse(text, mode="eval").body)


def test_a_condition_tells_which_facts_it_asks_for():
    assert parse("beam_energy > 3 and spacing.y < 1 and shape[0] in [a, 2]").names == {
        "beam_energy",
        "spacing",
        "shape",
        "a",
    }


def test_names_that_no_entry_has_are_refused_in_conditions(path):
    with pytest.raises(ArgumentError, match="do you mean beam_energy"):
        emio.search(path, "beam_enery > 80")


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command_lists_what_it_finds(path):
    said = emio_says("search", path, "beam_energy > 80 and 'gold' in name")
    assert "gold_1" in said
    assert "64 x 64 x 96 x 96" in said
    assert "gold_2" not in said
    assert said.splitlines()[-1] == "1 entry"
    assert emio_says("search", path, "shape == [1]") == "0 entries\n"


def test_names_are_never_cut_short(tmp_path):
    name = "a_very_long_name_" * 12
    (tmp_path / "c.yml").write_text(f"sources: {{{name}: {{driver: emio, args: {{uri: a}}}}}}")
    assert name in emio_says("search", tmp_path / "c.yml")


def test_the_command_prints_json_for_machines(path):
    found = json.loads(emio_says("search", path, "format == 'mib'", "--json"))
    assert [(one["name"], one["beam_energy"], one["uri"]) for one in found] == [("gold_2", 80, "/data/gold_2.mib")]
    assert "text" not in found[0]


def test_the_command_reads_catalogs_with_dates_in_them(tmp_path):
    (tmp_path / "c.yml").write_text("sources: {a: {driver: emio, args: {uri: a}, metadata: {day: 2024-05-01}}}")
    assert json.loads(emio_says("search", tmp_path / "c.yml", "--json"))[0]["day"] == "2024-05-01"
