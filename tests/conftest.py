"""What all tests share: where real files are, and fresh folders."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

REAL = Path(os.environ.get("EMIO_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


class RealFiles:
    """Real files of one format, and what other software reads in them."""

    def __init__(self, format_name: str):
        self.folder = REAL / format_name
        if not (self.folder / "EXPECTED.json").exists():
            pytest.skip(f"no real {format_name} files: set EMIO_TEST_DATA to their folder")
        self.expected: dict[str, Any] = json.loads((self.folder / "EXPECTED.json").read_text())

    def path(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture
def real_files():
    return RealFiles
