"""Show that HyperSpy finds the same signal in a file that intake-emio has written.

HyperSpy 2 wants version 2 of zarr-python, intake-emio version 3, so each has an environment of its own:

    python -m venv hyperspy && hyperspy/bin/pip install hyperspy "zarr<3"
    python hyperspy_round_trip.py hyperspy/bin/python

HyperSpy makes signals and saves them, intake-emio loads and saves these, and HyperSpy prints both. The exit status is 0
if it prints the same. Left out are the history of the files (``metadata.General.FileIO``), because it has times in it,
and our own account of the image (``original_metadata.emio``).
"""

import subprocess
import sys
import tempfile
from pathlib import Path


def make(folder):
    """Save signals as HyperSpy does: a 4D scan, a spectrum image with an uneven axis, a stack of colour pictures."""
    import hyperspy.api as hs
    import numpy as np

    scan = hs.signals.Signal2D(np.arange(3 * 4 * 5 * 6, dtype="u2").reshape(3, 4, 5, 6))
    calibrate(
        scan, [("x", "nm", 0.5, 1), ("y", "nm", 0.25, -1), ("kx", "$A^{-1}$", 0.1, -0.3), ("ky", "$A^{-1}$", 0.1, -0.2)]
    )
    scan.metadata.General.title = "gold / carbon"
    scan.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    scan.metadata.set_item("Acquisition_instrument.TEM.Detector.Camera.exposure", 1e-3)
    scan.metadata.set_item("Notes.region", (1, 2, "a"))
    scan.metadata.set_item("Notes.runs", [{"dose": 1.5, "ok": True}, {"dose": None, "ok": False}])
    scan.metadata.set_item("Notes.mask", np.array([[1, 0], [0, 1]]))
    scan.original_metadata.set_item("vendor.fields", ["p", "q"])

    spectra = hs.signals.Signal1D(
        np.arange(2 * 3 * 8, dtype="f4").reshape(2, 3, 8),
        axes=[
            {"size": 2, "name": "y", "units": "µm", "scale": 2.0, "navigate": True},
            {"size": 3, "navigate": True},
            {"axis": np.arange(8.0) ** 2, "name": "Energy loss", "units": "eV", "navigate": False, "is_binned": True},
        ],
    )
    spectra.metadata.General.title = "edge"
    spectra.metadata.set_item("Signal.quantity", "Counts")

    colours = hs.signals.Signal1D(np.arange(2 * 4 * 5 * 3, dtype="u1").reshape(2, 4, 5, 3))
    colours.change_dtype("rgb8")
    colours.axes_manager[0].name = "time"

    for name, signal in (("scan", scan), ("spectra", spectra), ("colours", colours)):
        signal.save(Path(folder) / f"{name}.zspy")


def calibrate(signal, axes):
    """Set name, units, scale and offset of the axes."""
    for axis, (name, units, scale, offset) in zip(signal.axes_manager._get_axes_in_natural_order(), axes, strict=True):
        axis.name, axis.units, axis.scale, axis.offset = name, units, scale, offset


def show(path):
    """Print a signal as HyperSpy loads it."""
    import hyperspy.api as hs

    signal = hs.load(path)
    for tree, name in ((signal.metadata.General, "FileIO"), (signal.original_metadata, "emio")):
        if tree.has_item(name):
            delattr(tree, name)
    print(repr(signal), signal.data.dtype, signal.data.astype("f8").sum() if signal.data.dtype.names is None else "")
    print(signal.axes_manager)
    print(signal.metadata)
    print(signal.original_metadata)


def convert(path, target):
    """Load with intake-emio, and save."""
    import intake_emio as emio

    dataset = emio.imload(path)
    units = {name: coord.attrs.get("units") for name, coord in dataset.coords.items()}
    print(f"=== {Path(path).name}: {dict(dataset.image.sizes)}, coordinates {units}")
    emio.imsave(dataset, target)


def main(hyperspy):
    """Make, convert and show, each in the environment that can."""

    def run(*arguments):
        command = [hyperspy, "-W", "ignore", __file__, *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    with tempfile.TemporaryDirectory() as folder:
        originals, ours = Path(folder) / "original", Path(folder) / "ours"
        originals.mkdir()
        ours.mkdir()
        run("make", originals)
        same = True
        for original in sorted(originals.iterdir()):
            convert(original, ours / original.name)
            before, after = run("show", original), run("show", ours / original.name)
            print(f"--- {original.name} by HyperSpy\n{before}--- {original.name} by intake-emio\n{after}")
            same = same and before == after
    print("the same" if same else "NOT the same")
    return 0 if same else 1


if __name__ == "__main__":
    task, *rest = sys.argv[1:]
    steps = {"make": make, "show": show}
    sys.exit(steps[task](*rest) if task in steps else main(task))
