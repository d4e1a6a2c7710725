"""The README's example runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

from .encoders.blo import write_blo

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.filterwarnings("ignore:Shell command not executed:UserWarning")
def test_every_line_of_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    patterns = np.arange(11 * 21 * 8 * 8, dtype="u4").reshape(11, 21, 8, 8).astype("u1")
    calibration = {"steps": (2.5, 2.5), "pixels_per_cm_x100": 5000, "beam_energy": 200_000, "navigator": np.arange(231)}
    write_blo(tmp_path / "scan.blo", patterns, **calibration)
    (tmp_path / "lab").mkdir()
    write_blo(tmp_path / "lab" / "gold_on_carbon.blo", patterns, **calibration)
    with open("frames.bin", "wb") as file:
        file.truncate((3 + 128 * 128) * 256 * 256 * 2)  # nobody reads what is not there
    example = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1]
    lines = [line for line in example.splitlines() if "s3://" not in line]
    assert len(lines) > 15
    names = {}
    exec("\n".join(lines), names)
    assert names["ds"].image.dims == ("y", "x", "v", "u")
    assert names["pattern"].shape == (8, 8)
    assert len(list(tmp_path.glob("frames.var_image.*.tif"))) == 231
