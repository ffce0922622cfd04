"""The API over a real socket, with plain HTTP: videos asked for, followed, fetched, changed, stopped and removed."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio.api.routes import STOP_SECONDS
from studio.queue.job import JobState, Request
from studio.video_writer import carry_picture
from tests.api.serving import SMALL, Api, until

QUICK = SMALL | {"infer_steps": 1}
LONG = SMALL | {"infer_steps": 200}


def png(side: int = 80) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (10, 200, 30)).save(file, "PNG")
    return file.getvalue()


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    parts = [part for part in text.split("\n\n") if part.startswith("event:")]
    return [(part.splitlines()[0][7:], json.loads(part.splitlines()[1][6:])) for part in parts]


def test_a_video_from_asking_to_its_bytes(api: Api) -> None:
    with api.client() as client:
        answer = client.post("/v1/videos", json={"prompt": "a boat", "seed": 3, "motion_score": None, **QUICK})
        video = answer.json()
        assert answer.status_code == 200 and answer.headers["openai-poll-after-ms"] == "2000", video
        assert video["id"].startswith("video_") and video["object"] == "video" and video["seed"] == 3
        assert (video["seconds"], video["num_frames"], video["size"], video["fps"]) == ("0.68", 17, "64x64", 25)
        assert video["status"] in ("queued", "in_progress") and video["error"] is None
        seen = events(client.get(f"/v1/videos/{video['id']}/events").text)
        assert {kind for kind, _ in seen} == {"video"} and seen[-1][1]["status"] == "completed"
        steps = [found["progress"] for _, found in seen]
        assert steps == sorted(steps) and steps[-1] == 100
        found = client.get(f"/v1/videos/{video['id']}").json()
        assert found == seen[-1][1] and found["file_name"].endswith(".mp4") and found["completed_at"]
        path = api.job(video["id"]).result.path
        bare = Path(path).read_bytes()
        carry_picture(Path(path), b"first image")
        whole = client.get(f"/v1/videos/{video['id']}/content")
        assert whole.content == bare and whole.headers["content-type"] == "video/mp4"
        part = client.get(f"/v1/videos/{video['id']}/content", headers={"Range": "bytes=4-11"})
        assert part.status_code == 206 and part.content == whole.content[4:12] and part.content[:4] == b"ftyp"
        sizes = {}
        for variant in ("thumbnail", "spritesheet", "spritesheet"):
            picture = client.get(f"/v1/videos/{video['id']}/content", params={"variant": variant})
            assert picture.headers["content-type"] == "image/jpeg"
            sizes[variant] = Image.open(io.BytesIO(picture.content)).size
        assert sizes == {"thumbnail": (64, 64), "spritesheet": (5 * 192, 5 * 192)}
        assert str(api.fake.folder) not in json.dumps(found), "no path of this machine is told"


def test_a_picture_comes_as_a_file_or_inside_the_request(api: Api) -> None:
    address = "data:image/png;base64," + base64.b64encode(png()).decode()
    ways = [
        {"data": {"prompt": "a", **QUICK}, "files": {"input_reference": ("a.png", png(), "image/png")}},
        {"json": {"prompt": "a", "input_reference": {"image_url": address}, **QUICK}},
        {"json": {"prompt": "a", "image_reference": address, **QUICK}},
        {"json": {"prompt": "a", "extra_params": {"image_reference": {"image_url": {"url": address}}}, **QUICK}},
        {"data": {"prompt": "a", "input_reference[image_url]": address, "extra_body": '{"seed": 5}', **QUICK}},
    ]
    with api.client() as client:
        for way in ways:
            answer = client.post("/v1/videos", **way)
            assert answer.status_code == 200 and answer.json()["first_image"] is True, (way, answer.text)
            folder = api.job(answer.json()["id"]).folder
            assert (folder / "first_image").read_bytes() == png()
    assert list(api.uploads.folder.iterdir()) == []


def test_a_remix_keeps_settings_seed_and_picture(api: Api) -> None:
    with api.client() as client:
        form = {"prompt": "up", "cfg_scale": "3.5", "seed": "77", **QUICK}
        source = client.post("/v1/videos", data=form, files={"input_reference": png()}).json()
        remix = client.post(f"/v1/videos/{source['id']}/remix", json={"prompt": "down"})
        assert remix.status_code == 200, remix.text
        made = remix.json()
        assert made["remixed_from_video_id"] == source["id"] != made["id"] and made["prompt"] == "down"
        kept = ("model", "seed", "cfg_scale", "size", "num_frames", "infer_steps", "first_image", "motion_score")
        assert [made[name] for name in kept] == [source[name] for name in kept]
        assert (api.job(made["id"]).folder / "first_image").read_bytes() == png()
        for fields, param in (({"prompt": "x", "model": "nano"}, "model"), ({"seed": 1}, "prompt")):
            refused = client.post(f"/v1/videos/{source['id']}/remix", json=fields)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_stop_go_on_and_remove(api: Api) -> None:
    with api.client() as client:
        id = client.post("/v1/videos", json={"prompt": "long", **LONG}).json()["id"]
        until(lambda: api.job(id).progress)
        early = client.get(f"/v1/videos/{id}/content")
        assert early.status_code == 404 and early.json()["error"]["code"] == "video_unready"
        assert client.post(f"/v1/videos/{id}/resume").status_code == 409
        assert client.post(f"/v1/videos/{id}/cancel").status_code == 200
        api.ended(id)
        stopped = client.get(f"/v1/videos/{id}").json()
        assert (stopped["status"], stopped["error"]["code"], stopped["resumable"]) == ("failed", "cancelled", True)
        again = client.post(f"/v1/videos/{id}/cancel")
        assert again.status_code == 409 and again.headers["x-should-retry"] == "false"
        resumed = client.post(f"/v1/videos/{id}/resume").json()
        assert resumed["status"] in ("queued", "in_progress") and resumed["error"] is None
        until(lambda: api.job(id).progress)
        folder = api.job(id).folder
        gone = client.delete(f"/v1/videos/{id}")
        assert gone.json() == {"id": id, "object": "video.deleted", "deleted": True} and not folder.exists()
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/resume"), ("POST", "/remix"),
                             ("GET", "/content"), ("GET", "/events")):  # fmt: skip
            answer = client.request(method, f"/v1/videos/{id}{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "video_absent"), (method, path)


def test_removing_waits_for_a_job_that_does_not_stop_no_longer_than_told(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is stuck inside a block: 409, and the video is there."""
    assert STOP_SECONDS <= 30
    monkeypatch.setattr("studio.api.routes.STOP_SECONDS", 0.2)
    monkeypatch.setattr("studio.queue.jobs.JobQueue.request", lambda self, id: Request.NONE)
    with api.client() as client:
        id = client.post("/v1/videos", json={"prompt": "stuck", **SMALL, "infer_steps": 60}).json()["id"]
        until(lambda: api.job(id).state == JobState.RUNNING)
        answer = client.delete(f"/v1/videos/{id}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_running")
        assert api.ended(id).state == JobState.FINISHED


def test_events_tell_of_a_video_that_is_removed(api: Api) -> None:
    with api.client() as client, api.client() as other:
        id = client.post("/v1/videos", json={"prompt": "long", **LONG}).json()["id"]
        with client.stream("GET", f"/v1/videos/{id}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            parts = answer.iter_text()
            text = next(parts)
            assert other.delete(f"/v1/videos/{id}").status_code == 200
            text += "".join(parts)
    assert events(text)[-1] == ("deleted", {"id": id, "object": "video.deleted", "deleted": True})


def test_a_failed_video_says_why_in_the_readers_language(api: Api) -> None:
    with api.client() as client:
        id = client.post("/v1/videos", json={"prompt": "it will fail", **QUICK}).json()["id"]
        api.ended(id)
        english = client.get(f"/v1/videos/{id}").json()
        chinese = client.get(f"/v1/videos/{id}", headers={"Accept-Language": "zh-CN"}).json()
    assert english["status"] == "failed" and english["error"]["code"] == "disk_full"
    assert "0.5" in english["error"]["message"] and "0.50 GB，" in chinese["error"]["message"]


def test_pages_follow_each_other(api: Api) -> None:
    with api.client() as client:
        ids = [client.post("/v1/videos", json={"prompt": str(n), **QUICK}).json()["id"] for n in range(5)]
        for order in ("asc", "desc"):
            found, asked, more = [], {"limit": "2", "order": order}, True
            while more:
                page = client.get("/v1/videos", params=asked).json()
                assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
                found += [video["id"] for video in page["data"]]
                more, asked = page["has_more"], asked | {"after": page["last_id"]}
            every = [f"video_{job.id}" for job in api.fake.backend.queue.list()]
            assert found == (every if order == "desc" else every[::-1]) and set(ids) <= set(found)
        wrong = [({"limit": "0"}, 400, "number_range"), ({"limit": "101"}, 400, "number_range"),
                 ({"limit": "x"}, 400, "number_range"), ({"order": "up"}, 400, "choice_unknown"),
                 ({"after": "video_0123456789abcdef"}, 404, "video_absent")]  # fmt: skip
        for params, status, code in wrong:
            answer = client.get("/v1/videos", params=params)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), params
