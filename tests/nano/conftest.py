"""A tiny nano of random weights, written once per test run."""

from pathlib import Path

import pytest

from studio.nano.checkpoint import write_checkpoint
from tests.tiny import TINY


@pytest.fixture(scope="session")
def nano_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program folder whose assets/nano holds t2v with every component and ti2v with its transformer; to be read."""
    root = tmp_path_factory.mktemp("program")
    write_checkpoint(root / "assets/nano/t2v", TINY, 1)
    write_checkpoint(root / "assets/nano/ti2v", TINY, 2, use_additional_conditions=True, components=("transformer",))
    return root
