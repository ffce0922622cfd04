"""The real gradio_client: three named endpoints, and nothing else that it could call."""

import time
from pathlib import Path

import httpx
import pytest

from studio.api.keys import Keys, Scope
from studio.api.routes import api_endpoints
from tests.ui.fake_backend import FakeBackend, Pace
from tests.ui.serving import LOGIN, serving

SMALL = {"model": "nano", "num_frames": 17, "height": 64, "width": 64, "seed": 3}


@pytest.mark.slow
def test_submit_status_and_cancel_have_names_and_nothing_else(tmp_path: Path) -> None:
    client_of = pytest.importorskip("gradio_client", reason="gradio_client comes with gradio").Client
    fake = FakeBackend(tmp_path, Pace(0.02, None))
    keys = Keys(tmp_path / "keys.json")
    write, read = keys.new("robot", Scope.WRITE, 6000), keys.new("watcher", Scope.READ, 6000)
    with serving(fake, api_endpoints(fake.backend, keys), auth=(LOGIN,)) as served:

        def client(key: str):
            return client_of(served.url, headers={"Authorization": f"Bearer {key}"}, verbose=False)

        robot = client(write)
        assert set(robot.view_api(return_format="dict", print_info=False)["named_endpoints"]) == {
            "/submit", "/status", "/cancel"}  # fmt: skip
        id = robot.predict(prompt="a boat", infer_steps=4, **SMALL, api_name="/submit")
        assert robot.predict(id=id, api_name="/status")["status"] == "queued"
        player = fake.play()
        deadline = time.monotonic() + 100
        while (told := robot.predict(id=id, api_name="/status"))["status"] != "finished":
            assert time.monotonic() < deadline, told
        assert told["file"].endswith(".mp4") and told["error"] is None
        player.end()
        waiting = robot.predict(prompt="a boat", infer_steps=4, **SMALL, api_name="/submit")
        assert robot.predict(id=waiting, api_name="/cancel")["status"] == "cancelled"
        for given in ({"prompt": "", **SMALL}, {"prompt": "a boat", **SMALL, "num_frames": 18}):
            with pytest.raises(Exception, match=r"prompt|17"):
                robot.predict(**given, api_name="/submit")
        with pytest.raises(Exception, match="no video .nothing. here"):
            robot.predict(id="nothing", api_name="/status")
        with pytest.raises(httpx.HTTPStatusError, match="403"):
            client(read).predict(id=id, api_name="/cancel")
        with pytest.raises(Exception, match="credentials|401"):
            client("svs_none")
        asked = {"data": [None], "fn_index": 0, "session_hash": "abc"}
        with httpx.Client(base_url=served.url, headers={"Authorization": f"Bearer {write}"}, timeout=60) as plain:
            refused = plain.post("/gradio_api/queue/join", json=asked)
            assert refused.status_code == 422, "a handler of the page has no way through the queue"
            assert plain.post("/gradio_api/run/predict", json=asked).status_code == 403
