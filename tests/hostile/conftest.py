from collections.abc import Iterator

import pytest

from tests.hostile.machine import Machine


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """One process for the cases of all files."""
    made = Machine()
    yield made
    made.close()
