"""Files are found by id and kind; text from outside reaches nothing else."""

from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.embedded import picture_box
from studio.events import Preview
from studio.filenames import THUMBNAIL
from studio.queue.job import JobState
from studio.service.backend import Backend
from studio.service.media import find_media, first_image
from studio.service.media_routes import media_routes
from tests.queue.test_gallery import write_result
from tests.queue.test_jobs import SETTINGS, finished, picture

KINDS = ("result", "download", "poster", "preview")


def test_files_of_a_job(backend: Backend, tmp_path: Path) -> None:
    data = picture()
    job = backend.queue.submit(SETTINGS, data)
    assert [find_media(backend, job.id, kind) for kind in KINDS] == [None] * 4
    assert first_image(backend, job.id) == data
    backend.queue.claim()
    backend.queue.record(job.id, Preview(1, "preview.webp"))
    assert find_media(backend, job.id, "preview") == job.folder / "preview.webp"
    path = write_result(tmp_path / "a.mp4")
    backend.queue.finish(job.id, JobState.FINISHED, result=finished(path))
    assert [find_media(backend, job.id, kind) for kind in KINDS[:3]] == [path, path, tmp_path / "a.jpg"]
    assert find_media(backend, job.id, "first") == tmp_path / "a.first.png"
    (tmp_path / "a.first.png").unlink()
    assert find_media(backend, job.id, "first") == job.folder / THUMBNAIL
    assert find_media(backend, job.id, "settings") is None


def test_files_of_a_result_that_no_job_knows(backend: Backend, tmp_path: Path) -> None:
    path = write_result(tmp_path / "a.mp4", replace(SETTINGS, first_image="a.first.png"))
    (entry,) = backend.gallery.list()
    assert [find_media(backend, entry.id, kind) for kind in KINDS] == [path, path, tmp_path / "a.jpg", None]
    assert first_image(backend, entry.id) == b"content of .first.png"
    assert find_media(backend, entry.id, "first") == tmp_path / "a.first.png"
    (tmp_path / "a.first.png").unlink()
    assert first_image(backend, entry.id) is None


def test_a_public_page_sends_videos_without_the_picture_that_they_carry(backend: Backend, tmp_path: Path) -> None:
    path = write_result(tmp_path / "a.mp4")
    bare = b"\0\0\0\x0cftypisom" + bytes(200_000 - 12)
    bare = bare[:12] + (len(bare) - 12).to_bytes(4, "big") + b"free" + bare[20:]
    path.write_bytes(bare + picture_box(b"mine"))
    (entry,) = backend.gallery.list()
    assert first_image(backend, entry.id) == b"mine"
    for public, sent in ((False, path.read_bytes()), (True, bare)):
        client = TestClient(Starlette(routes=media_routes(replace(backend, public=public))))
        whole = client.get(f"/studio/media/{entry.id}/download")
        assert whole.content == sent and 'filename="a.mp4"' in whole.headers["content-disposition"]
        asked = {"bytes=0-3": sent[:4], "bytes=199990-": sent[199990:], "bytes=-5": sent[-5:]}
        for part, expected in asked.items():
            answer = client.get(f"/studio/media/{entry.id}/result", headers={"Range": part})
            assert (answer.status_code, answer.content) == (206, expected), (public, part)
            assert answer.headers["content-range"].endswith(f"/{len(sent)}")
        beyond = client.get(f"/studio/media/{entry.id}/result", headers={"Range": f"bytes={len(sent)}-"})
        assert beyond.status_code == 416
    several = client.get(f"/studio/media/{entry.id}/result", headers={"Range": "bytes=0-1,4-5"})
    assert (several.status_code, several.content) == (200, bare)


def test_a_path_in_a_foreign_record_is_never_opened(backend: Backend, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    write_result(tmp_path / "a.mp4", replace(SETTINGS, first_image=str(secret)))
    (tmp_path / "a.first.png").unlink()
    (entry,) = backend.gallery.list()
    assert first_image(backend, entry.id) is None and find_media(backend, entry.id, "first") is None


def test_the_clip_of_an_example_by_language(backend: Backend) -> None:
    key, example = next(iter(backend.examples.items()))
    assert {find_media(backend, key, language).name for language in example.prompt} == {
        f"{key}.en.webp",
        f"{key}.zh.webp",
    }
    assert find_media(backend, key, "result") is None and find_media(backend, key, "../en") is None


@given(id=st.text() | st.sampled_from(["../a", "a.mp4", "\ud800"]), kind=st.sampled_from([*KINDS, "en", ".."]))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_unknown_id_finds_nothing(id: str, kind: str, backend: Backend) -> None:
    assert find_media(backend, id, kind) is None and first_image(backend, id) is None
