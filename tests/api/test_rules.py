"""Who may do what: every operation with every kind of key, from elsewhere, too large, over its rate, repeated."""

import itertools
from pathlib import Path

import httpx
import pytest

from studio.api.keys import Scope
from studio.api.operations import OPERATIONS
from studio.config import load_models, load_studio
from studio.memory.plan import Sharing
from studio.pipeline.engine import EngineOptions
from studio.pipeline.estimate import Estimator
from studio.queue.jobs import JobQueue
from tests.api.serving import Api, serving
from tests.api.test_videos import LONG, QUICK, png


def test_every_operation_opens_for_its_keys_alone(api: Api) -> None:
    wrong = []
    keys = {"write": api.write, "read": api.read, "none": "", "unknown": "svs_x"}
    for operation, (kind, key) in itertools.product(OPERATIONS, keys.items()):
        path = operation.path.replace("{id}", "video_0000000000000000")
        with api.client(key) as client:
            status = client.request(operation.method, path, json={} if operation.method == "POST" else None).status_code
        opens = kind == "write" or (kind == "read" and operation.scope == "read") or (kind == "none" and operation.open)
        refused = {"none": 401, "unknown": 401, "read": 403}.get(kind)
        sound = status in (200, 400, 404) if opens else status == refused
        wrong += [] if sound else [(operation.name, kind, status)]
    assert wrong == []


def test_refusals_have_the_form_that_clients_read(api: Api) -> None:
    with api.client("") as client:
        none = client.get("/v1/videos")
        foreign = client.get("/v1/videos", headers={"Host": "rebind.example"})
        page = client.post("/v1/videos", headers={"Origin": "http://evil.example"}, json={})
    with api.client(api.read) as client:
        scope = client.post("/v1/videos", json={"prompt": "x"}, headers={"Accept-Language": "zh"})
        nothing = client.get("/v1/nothing")
        method = client.put("/v1/videos")
    found = [(answer.status_code, answer.json()["error"]["type"], answer.json()["error"]["code"])
             for answer in (none, foreign, page, scope, nothing, method)]  # fmt: skip
    assert found == [
        (401, "authentication_error", "key_needed"),
        (403, "permission_error", "host_unknown"),
        (403, "permission_error", "page_foreign"),
        (403, "permission_error", "key_scope"),
        (404, "not_found_error", "not_served"),
        (405, "invalid_request_error", "not_served"),
    ]
    assert set(none.json()["error"]) == {"message", "type", "param", "code"}
    assert "key new NAME" in none.json()["error"]["message"] and "密钥" in scope.json()["error"]["message"]
    with api.client(api.keys.new("hasty", Scope.READ, 2)) as client:
        statuses = [client.get("/v1/models").status_code for _ in range(3)]
        last = client.get("/v1/models")
    assert statuses == [200, 200, 429] and 1 <= int(last.headers["retry-after"]) <= 30


def test_where_nobody_needs_a_login_nobody_needs_a_key(tmp_path: Path) -> None:
    with serving(tmp_path, accounts=()) as api, api.client("") as client:
        assert client.get("/v1/models").status_code == 200
        assert client.post("/v1/videos", json={"prompt": "x", **QUICK}).status_code == 200
        assert client.get("/v1/docs").headers["content-type"].startswith("text/html")
        wrong = client.get("/v1/models", headers={"Authorization": "Bearer sk-1"})
        assert wrong.status_code == 401 and wrong.json()["error"]["code"] == "key_unknown"
        foreign = client.post("/v1/videos", json={"prompt": "x"}, headers={"Sec-Fetch-Site": "cross-site"})
        assert foreign.status_code == 403


def test_what_cannot_be_read_or_made_is_a_sentence(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.fake, "names", ("nano", "nano-turbo"))  # installed
    big = (api.fake.backend.config.upload_limit_mb << 20) + 2**20
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    begin = b'--x\r\nContent-Disposition: form-data; name="input_reference"; filename="a"\r\n\r\n'
    queued = api.fake.backend.queue.count()
    cases = [
        ({"content": b"{"}, 400, "request_unreadable", None),
        ({"content": b"[1]"}, 400, "request_unreadable", None),
        ({"content": b"\xff\xfe"}, 400, "request_unreadable", None),
        ({"content": b"[" * 100_000}, 400, "request_unreadable", None),
        ({"content": b"broken", "headers": form}, 400, "request_unreadable", None),
        ({"content": b"--x\r\n\r\nno name\r\n--x--\r\n", "headers": form}, 400, "request_unreadable", None),
        ({"data": {f"f{n}": "" for n in range(70)}, "files": {"g": b""}}, 400, "request_unreadable", None),
        ({"files": [("input_reference", b"1"), ("image_reference", b"2")]}, 400, "request_unreadable", None),
        ({"content": b"prompt=a&prompt=b", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 400,
         "field_twice", "prompt"),
        ({"json": {}}, 400, "prompt_empty", "prompt"),
        ({"json": {"prompt": "x", "num_frames": 18}}, 400, "frames_step", "num_frames"),
        ({"json": {"prompt": "x", "seconds": "8"}}, 400, "frames_many", "num_frames"),
        ({"json": {"prompt": "x", "width": 65}}, 400, "size_step", "width"),
        ({"json": {"prompt": "x", "infer_steps": 10**30}}, 400, "number_range", "infer_steps"),
        ({"content": rb'{"prompt": "\ud800"}'}, 400, "settings_unreadable", None),
        ({"json": {"prompt": "x", "model": "step-video-t2v"}}, 404, "model_absent", "model"),
        ({"json": {"prompt": "x", "model": "sora-2"}}, 400, "model_unknown", "model"),
        ({"data": {"prompt": "x"}, "files": {"input_reference": b"no picture"}}, 400, "image_format",
         "input_reference"),
        ({"data": {"prompt": "x", "model": "nano-turbo"}, "files": {"input_reference": png()}}, 400, "image_unused",
         "input_reference"),
        ({"files": {"input_reference": bytes(big)}}, 413, "body_large", None),
        ({"content": iter([begin, *[bytes(2**20)] * (big >> 20)]), "headers": form}, 413, "body_large", None),
    ]  # fmt: skip
    with api.client() as client:
        for given, status, code, param in cases:
            answer = client.post("/v1/videos", **given)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["param"]) == (status, code, param), (given.keys(), error)
        both = client.post("/v1/videos", json={"prompt": "", "num_frames": 18}).json()["error"]["message"]
        assert "prompt is empty" in both and "num_frames is 18" in both, "all that is wrong is told at once"
    assert api.fake.backend.queue.count() == queued and list(api.uploads.folder.iterdir()) == []


def test_a_repeated_request_makes_one_video(api: Api) -> None:
    queue = api.fake.backend.queue
    key = {"Idempotency-Key": "order-1"}
    asked = {"prompt": "once", **QUICK}
    with api.client() as client:
        first = client.post("/v1/videos", json=asked, headers=key)
        again = client.post("/v1/videos", data={name: str(value) for name, value in asked.items()}, headers=key)
        assert again.json()["id"] == first.json()["id"] and again.headers["idempotent-replayed"] == "true"
        assert "idempotent-replayed" not in first.headers
        assert client.post("/v1/videos", json=asked).json()["id"] != first.json()["id"]
        other = client.post("/v1/videos", json=asked | {"seed": 2}, headers=key)
        assert (other.status_code, other.json()["error"]["code"]) == (409, "request_key_reused")
        files = {"input_reference": png()}
        pictured = client.post("/v1/videos", data={"prompt": "once", **QUICK}, files=files, headers=key)
        assert pictured.status_code == 409
        second = api.keys.new("second", Scope.WRITE, 600)
        theirs = client.post("/v1/videos", json=asked, headers=key | {"Authorization": f"Bearer {second}"})
        assert theirs.json()["id"] != first.json()["id"], "keys of others are others"
        count = queue.count()
        remix = [client.post(f"/v1/videos/{first.json()['id']}/remix", json={"prompt": "y"},
                             headers={"Idempotency-Key": "r"}).json()["id"] for _ in range(2)]  # fmt: skip
        assert len(set(remix)) == 1 and queue.count() == count + 1
        for bad in ("", "x" * 256, "a\tb"):
            assert client.post("/v1/videos", json=asked, headers={"Idempotency-Key": bad}).status_code == 400
        api.ended(first.json()["id"])
        assert client.delete(f"/v1/videos/{first.json()['id']}").status_code == 200
        anew = client.post("/v1/videos", json=asked, headers=key)
        assert anew.status_code == 200 and anew.json()["id"] != first.json()["id"]


def test_a_repeated_request_is_known_after_a_restart(tmp_path: Path) -> None:
    key = {"Idempotency-Key": "order-1"}
    with serving(tmp_path, accounts=()) as api, api.client("") as client:
        first = client.post("/v1/videos", json={"prompt": "x", **LONG}, headers=key).json()["id"]
    (tmp_path / ".queue" / "keys.json").unlink()
    with serving(tmp_path, accounts=()) as api, api.client("") as client:
        assert client.post("/v1/videos", json={"prompt": "x", **LONG}, headers=key).json()["id"] == first
    assert JobQueue(tmp_path / ".queue").count() == 1


def test_a_queue_of_another_program_is_read_only(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.fake, "is_owner", False)
    with api.client() as client:
        answer = client.post("/v1/videos", json={"prompt": "x", **QUICK})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "queue_elsewhere")
        assert client.get("/v1/videos").status_code == 200
    monkeypatch.setattr(api.fake, "trouble", object())
    assert httpx.get(f"{api.url}/health").status_code == 503


def test_a_video_that_the_devices_cannot_share_is_refused_on_asking(tmp_path: Path) -> None:
    """Nano's 2 heads: the real check, as the page hands it over."""
    models, config = load_models(), load_studio(output_dir=str(tmp_path))
    cases = [
        (3, {}, "cannot use 3 GPUs", "可用数量：1, 2, 4", "gpus_count", None),
        (2, {"cfg_scale": 1.0}, None, None, None, None),  # all of two can share the tokens
        (4, {"cfg_scale": 1.0}, None, None, None, None),  # half of them have nothing to do
    ]
    for count, fields, english, chinese, code, param in cases:
        estimator = Estimator(config, EngineOptions("cpu", sharing=Sharing(count)))
        with serving(
            tmp_path / str(count),
            check_sharing=lambda settings, by=estimator: by.check_sharing(settings, models[settings.model]),
        ) as api, api.client() as client:  # fmt: skip
            asked = {"json": {"prompt": "a boat", "model": "nano", **QUICK, **fields}}
            told, again = (
                client.post("/v1/videos", **asked),
                client.post("/v1/videos", **asked, headers={"Accept-Language": "zh"}),
            )
            if code is None:
                assert told.status_code == 200, told.text
                continue
            error = told.json()["error"]
            assert (told.status_code, error["code"], error["param"]) == (400, code, param)
            assert english in error["message"] and "It can use 1, 2, 4." in error["message"]
            assert chinese in again.json()["error"]["message"]
            assert client.get("/v1/videos").json()["data"] == []
