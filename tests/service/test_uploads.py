"""Uploads share one folder under one quota; what lies longest unused makes room."""

import os

import pytest

from studio.errors import InputError
from studio.service import uploads as uploads_room
from studio.service.uploads import FORM_BYTES, Uploads


@pytest.fixture
def uploads(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads_room, "LEAST_BYTES", 1)
    made = Uploads(tmp_path / "uploads", 100, 1000, clock=lambda: 500.0)
    made._quota = 1000  # smaller than a form would allow
    made.clear()
    return made


def store(uploads, name, size, used):
    path = uploads.folder / name / "file.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (used, used))
    return path


def left(uploads):
    return sorted(path.parent.name for path in uploads.folder.rglob("*.png"))


def test_the_longest_unused_make_room(uploads):
    for name, used in (("a", 3), ("b", 1), ("c", 2)):
        store(uploads, name, 300, used)
    assert uploads.reserve(100) and left(uploads) == ["a", "b", "c"], "there is room"
    assert uploads.reserve(250) and left(uploads) == ["a", "c"]
    uploads.release(100)
    uploads.release(250)
    assert uploads.reserve(1000) and left(uploads) == [] and not (uploads.folder / "a").exists()


def test_many_tiny_files_count_as_what_a_disk_gives_them(uploads, monkeypatch):
    monkeypatch.setattr(uploads_room, "LEAST_BYTES", 100)
    for number in range(12):
        store(uploads, f"{number:02}", 1, number)
    assert uploads.reserve(100) and len(left(uploads)) == 9


def test_using_a_file_keeps_it(uploads):
    paths = {name: store(uploads, name, 300, used) for name, used in (("a", 1), ("b", 2), ("c", 3))}
    assert uploads.read(str(paths["a"])) == b"x" * 300
    assert uploads.reserve(200) and left(uploads) == ["a", "c"]


def test_uploads_under_way_are_counted_and_not_dropped(uploads):
    assert uploads.reserve(600)
    store(uploads, "writing", 300, 600)  # since the first began
    assert not uploads.reserve(500) and left(uploads) == ["writing"]
    assert uploads.reserve(400) and left(uploads) == ["writing"]
    uploads.release(600)
    uploads.release(400)
    assert uploads.reserve(900), "nothing is counted twice"


def test_a_file_that_is_gone_is_a_sentence(uploads, tmp_path):
    (outside := tmp_path / "secret.png").write_bytes(b"secret")
    inside = store(uploads, "a", 3, 1)
    (uploads.folder / "link.png").symlink_to(outside)
    assert uploads.read(str(inside)) == b"xxx"
    paths = (outside, uploads.folder / "gone", uploads.folder, inside.parent, uploads.folder / "link.png", "a/file.png",
             f"{inside}/../../../secret.png", "", "\0", "/" + "x" * 5000, f"{uploads.folder}-other/x")  # fmt: skip
    for path in paths:
        with pytest.raises(InputError, match="no longer here"):
            uploads.read(str(path))


def test_what_is_kept_for_a_form_counts_like_an_upload(uploads):
    first = uploads.keep(b"p" * 90, "first_image")
    assert uploads.read(str(first)) == b"p" * 90 and uploads.keep(b"p" * 90, "first_image") == first
    assert uploads.contains(str(first)) and not uploads.contains("first_image")


def test_nothing_outlives_the_program(uploads):
    store(uploads, "a", 10, 1)
    uploads.clear()
    assert uploads.folder.is_dir() and left(uploads) == []
    assert Uploads(uploads.folder, 100, 1).reserve(100 + FORM_BYTES), "a quota takes one upload at least"
