"""One API for the tests of a file: its worker plays a step in 0.02 s, as many as were asked for."""

from collections.abc import Iterator

import pytest

from tests.api.serving import Api, serving


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serving(tmp_path_factory.mktemp("api")) as served:
        yield served
