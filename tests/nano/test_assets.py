"""What is shipped of nano stays small enough for any git host, and for everybody's clone."""

import pytest

from studio.config import ROOT

NANO = ROOT / "assets" / "nano"
pytestmark = pytest.mark.skipif(not NANO.is_dir(), reason="the nano checkpoint is not in this copy")


def test_the_files_keep_their_size() -> None:
    sizes = {path: path.stat().st_size for path in NANO.rglob("*") if path.is_file() and "int8" not in path.parts}
    assert not {path: size for path, size in sizes.items() if size > 15_000_000}
    assert sum(sizes.values()) <= 52 * 2**20
