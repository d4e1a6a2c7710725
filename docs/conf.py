"""Configuration of the documentation; build with ``python -m sphinx -W docs docs/_build/html``."""

import doctest
import importlib.metadata
import inspect
import pathlib
import sys

from intake.source.base import DataSource

sys.path.insert(0, str(pathlib.Path(__file__).parent))

_package = importlib.metadata.metadata("intake-emio")

project = _package["Name"]
author = "The intake-emio developers"
project_copyright = f"2026, {author}"
release = version = _package["Version"]

extensions = [
    "console",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "examples"]
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"{project} {release}"

# Docstrings are written in the NumPy style, with the names of objects between single backticks.
default_role = "py:obj"
napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"

# The examples on the pages. Those of the docstrings run with pytest, among the names of their own module.
doctest_test_doctest_blocks = ""
doctest_path = [str(pathlib.Path(__file__).parent / "examples" / "toy-emio")]
doctest_default_flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.DONT_ACCEPT_TRUE_FOR_1
doctest_global_setup = """
import os, shutil, tempfile
_before, _folder = os.getcwd(), tempfile.mkdtemp(prefix="emio-docs-")
os.chdir(_folder)
"""
doctest_global_cleanup = """
os.chdir(_before)
shutil.rmtree(_folder, ignore_errors=True)
"""


def _constructor_signature(app, what, name, obj, options, signature, return_annotation):
    """Show the arguments of a source's `__init__`, which intake hides behind its own `__new__`."""
    if what != "class" or not issubclass(obj, DataSource):
        return None
    _, *parameters = inspect.signature(obj.__init__).parameters.values()
    shown = inspect.Signature([p.replace(annotation=inspect.Parameter.empty) for p in parameters])
    return str(shown), None


_summaries = {}


def _keep_summary(app, what, name, obj, options, lines):
    """Remember a property's docstring before napoleon reads it."""
    if what == "property":
        _summaries[name] = list(lines)


def _restore_summary(app, what, name, obj, options, lines):
    """Napoleon takes what stands before a colon in a property's first line for its type; it is none."""
    if what == "property" and ": " in "".join(_summaries[name][:1]):
        lines[:] = _summaries[name]


def setup(app):
    """Register what Sphinx has no option for."""
    app.connect("autodoc-process-docstring", _keep_summary, priority=400)
    app.connect("autodoc-process-docstring", _restore_summary, priority=600)
    app.connect("autodoc-process-signature", _constructor_signature)
