"""A tiny nano of random weights, written once per test run."""

from pathlib import Path

import pytest

from studio.nano.checkpoint import write_checkpoint
from tests.tiny import TINY


@pytest.fixture(scope="session")
def nano_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program folder whose assets/nano holds ti2v with every component; to be read."""
    root = tmp_path_factory.mktemp("program")
    write_checkpoint(root / "assets/nano/ti2v", TINY, 1, use_additional_conditions=True)
    return root
