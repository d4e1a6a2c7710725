"""Importing costs nothing, and makes everything known."""

import json
import subprocess
import sys
import textwrap

import pytest

import intake_emio as emio


def python(script):
    """Run a script in a fresh interpreter; return what it printed, as JSON."""
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


HEAVY = [
    "dask",
    "xarray",
    "numpy",
    "zarr",
    "numba",
    "pandas",
    "h5py",
    "tifffile",
    "distributed",
    "rich",
    "typer",
    "PIL",
    "intake",
]


def test_importing_the_package_imports_nothing_heavy_and_takes_no_time():
    seconds, loaded = python(
        """
        import json, sys, time
        start = time.perf_counter()
        import intake_emio
        print(json.dumps([time.perf_counter() - start, sorted(sys.modules)]))
        """
    )
    assert not set(HEAVY) & set(loaded)
    assert seconds < 0.15


def test_importing_intake_makes_our_drivers_known_without_importing_dask_or_xarray():
    drivers, loaded = python(
        """
        import json, sys
        import intake
        drivers = [name for name in intake.registry if name.startswith("emio")]
        print(json.dumps([drivers, sorted(sys.modules)]))
        """
    )
    assert {"emio", "emio_blo", "emio_npy", "emio_raw"} <= set(drivers)
    assert not {"dask", "xarray", "numba", "zarr"} & set(loaded)


def test_making_a_source_imports_neither_dask_nor_xarray():
    loaded = python(
        """
        import json, sys
        import intake
        intake.open_emio("scan.blo")
        intake.open_emio_raw("scan.raw", dtype="u2", sig_shape=(2, 2))
        print(json.dumps(sorted(sys.modules)))
        """
    )
    assert not {"dask", "xarray", "numba", "zarr", "distributed"} & set(loaded)


def test_public_names_are_there_when_asked_for():
    names = {
        "imload",
        "imsave",
        "detect",
        "get_axes",
        "get_spacing",
        "get_spacing_units",
        "to_xarray",
        "to_numpy",
        "EmioError",
    }
    assert names <= set(emio.__all__) <= set(dir(emio))
    assert all(getattr(emio, name).__doc__ for name in emio.__all__)
    assert emio.__version__[0].isdigit()


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="imlaod"):
        emio.imlaod  # noqa: B018


def test_refusals_are_value_errors_and_what_they_are_besides():
    from intake_emio import errors

    kinds = {
        errors.ArgumentTypeError: TypeError,
        errors.UnknownArgumentError: TypeError,
        errors.PartitionError: IndexError,
        errors.MissingFileError: FileNotFoundError,
        errors.TargetExistsError: FileExistsError,
        errors.StorageError: OSError,
        errors.TruncatedError: OSError,
        errors.HeaderError: ValueError,
        errors.UnknownFormatError: ValueError,
    }
    for kind, builtin in kinds.items():
        assert issubclass(kind, (emio.EmioError))
        assert issubclass(kind, builtin)
    assert issubclass(emio.EmioError, ValueError)
