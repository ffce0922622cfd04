"""Set-up of the memory room's tests, with torch alone."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def quick_collections() -> Iterator[None]:
    """Leave the objects that exist before a test out of garbage collections.

    The memory runtime collects garbage at each retry and release. The libraries of a test process have a million
    objects, and every collection would go through all of them: most of the time of these tests.
    """
    gc.collect()
    gc.freeze()
    yield
