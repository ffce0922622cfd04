"""The real client of the dialect: its own types, its own polling, its own errors."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.media import read_video
from tests.api.serving import SMALL, Api
from tests.api.test_videos import png

openai = pytest.importorskip("openai", reason="openai is not installed (requirements-test.txt)")
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@pytest.fixture(scope="module")
def client(api: Api) -> Iterator["openai.OpenAI"]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with openai.OpenAI(base_url=f"{api.url}/v1", api_key=api.write, max_retries=0) as made:
            yield made


def test_create_poll_download_remix_list_delete(api: Api, client: "openai.OpenAI", tmp_path: Path) -> None:
    video = client.videos.create_and_poll(
        model="nano", prompt="a red ball", seconds="1", size="96x64", poll_interval_ms=50,
        input_reference=("a.png", png(), "image/png"), extra_body={"infer_steps": 2, "seed": 9, "motion_score": 2.5},
    )  # fmt: skip
    assert (video.status, video.progress, video.seconds, video.size) == ("completed", 100, "0.68", "96x64")
    job = api.job(video.id)
    assert (job.settings.infer_steps, job.settings.seed, job.settings.motion_score) == (2, 9, 2.5)
    assert (job.folder / "first_image").read_bytes() == png()
    client.videos.download_content(video.id).write_to_file(tmp_path / "a.mp4")
    assert read_video(tmp_path / "a.mp4").shape == (17, 64, 96, 3)
    assert client.videos.download_content(video.id, variant="thumbnail").read()[:2] == b"\xff\xd8"
    remix = client.videos.remix(video.id, prompt="a blue ball")
    assert remix.remixed_from_video_id == video.id and api.job(remix.id).settings.seed == 9
    assert client.videos.poll(remix.id, poll_interval_ms=50).status == "completed"
    listed = [found.id for found in client.videos.list(limit=1)]  # goes through all pages
    assert listed == [remix.id, video.id]
    assert client.videos.retrieve(remix.id).prompt == "a blue ball"
    gone = client.videos.delete(remix.id)
    assert (gone.id, gone.deleted, gone.object) == (remix.id, True, "video.deleted")
    assert {model.id for model in client.models.list()} == {"nano"} and client.models.retrieve("nano").id == "nano"


def test_its_errors_are_those_of_the_status(api: Api, client: "openai.OpenAI") -> None:
    wrong = client.with_options(api_key="sk-nothing")
    reader = client.with_options(api_key=api.read)
    cases = [
        (openai.BadRequestError, "frames_step", lambda: client.videos.create(prompt="x", extra_body={"num_frames": 5})),
        (openai.BadRequestError, "size_form", lambda: client.videos.create(prompt="x", size="huge")),
        (openai.NotFoundError, "video_absent", lambda: client.videos.retrieve("video_0000000000000000")),
        (openai.NotFoundError, "video_absent", lambda: client.videos.delete("nothing")),
        (openai.AuthenticationError, "key_unknown", lambda: wrong.videos.list()),
        (openai.PermissionDeniedError, "key_scope", lambda: reader.videos.create(prompt="x")),
    ]
    for kind, code, call in cases:
        with pytest.raises(kind) as caught:
            call()
        assert caught.value.code == code and caught.value.body["message"], code
    failed = client.videos.create_and_poll(
        prompt="it will fail", size=SMALL["size"], extra_body={"infer_steps": 1}, poll_interval_ms=50
    )
    assert failed.status == "failed" and failed.error.code == "disk_full" and "0.5" in failed.error.message


def test_a_state_that_forbids_it_is_told_once(api: Api, client: "openai.OpenAI") -> None:
    """The client repeats a 409 by itself unless it is told not to."""
    video = client.videos.create_and_poll(prompt="x", size="64x64", extra_body={"infer_steps": 1}, poll_interval_ms=50)
    seen: list[int] = []
    patient = client.with_options(max_retries=3)
    patient._client.event_hooks["response"].append(lambda response: seen.append(response.status_code))
    with pytest.raises(openai.ConflictError):
        patient.post(f"/videos/{video.id}/cancel", cast_to=object)
    patient._client.event_hooks["response"].clear()
    assert seen == [409]
