"""Folders of older versions, which open with every job, video and setting; of newer ones, which are left alone.

A new entry of MIGRATIONS needs: a line in STORED, and a test that opens a folder written by the version before.
"""

import json
import shutil
import sqlite3
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from studio import filenames
from studio.errors import InputError, StudioError
from studio.events import Failed, Finished, Notice, Progress
from studio.media import read_metadata
from studio.queue import schema, verbs
from studio.queue.gallery import Gallery
from studio.queue.job import Job, JobState, Request
from studio.queue.jobs import JobQueue
from studio.queue.kinds import JobKind, SoundOrder, read_stored
from studio.queue.locks import OwnerLock
from studio.queue.search import Search
from studio.settings import ResolvedSettings
from tests.queue.test_jobs import SETTINGS

OLD = Path(__file__).parent / "f100660"
MADE_AT = "/tmp/f100660/folder"  # the paths in it begin so
# What each version stores besides columns. Another field here is another version: older programs would stumble on it.
SETTINGS_FIELDS = "model prompt negative_prompt first_image motion_score camera_move infer_steps cfg_scale time_shift"
STORED = {
    1: {
        ResolvedSettings: f"{SETTINGS_FIELDS} num_frames height width seed",
        Progress: "phase step steps seconds seconds_left vram_bytes ram_bytes",
        Notice: "code values text",
        Failed: "code values text",
        Finished: "path seed seconds vram_peak_bytes ram_peak_bytes",
    },
}
STORED[2] = STORED[1]
ADDED_IN_3 = {"speed": "exact", "guidance_schedule": "constant"}
STORED[3] = STORED[2] | {ResolvedSettings: " ".join((STORED[2][ResolvedSettings], *ADDED_IN_3))}

STORED[4] = STORED[3]
STORED[5] = STORED[4]
STORED[6] = STORED[5] | {SoundOrder: "clip track"}
ADDED_IN_7 = {"prompt_template": "", "magic_words": "official", "camera_speed": "plain"}
STORED[7] = STORED[6] | {ResolvedSettings: " ".join((STORED[6][ResolvedSettings], *ADDED_IN_7))}
STORED[8] = STORED[7]
ADDED_IN_9 = {"crop_left": 0.5, "crop_top": 0.5}
STORED[9] = STORED[8] | {ResolvedSettings: " ".join((STORED[8][ResolvedSettings], *ADDED_IN_9))}
STORED[10] = STORED[9]
STORED[11] = STORED[10]


def test_what_is_stored_changes_with_the_version_alone() -> None:
    now = {kind: " ".join(field.name for field in fields(kind)) for kind in STORED[schema.VERSION]}
    assert now == STORED[schema.VERSION], "another field: add an entry to MIGRATIONS, and its line to STORED"
    assert list(STORED) == list(range(1, schema.VERSION + 1))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the folder, with the paths in it leading to the copy."""
    folder = tmp_path / "folder"
    shutil.copytree(OLD / "folder", folder)
    with sqlite3.connect(folder / ".queue" / "queue.sqlite") as db:
        db.execute("UPDATE jobs SET result = replace(result, ?, ?)", (MADE_AT, str(folder)))
    db.close()
    for path in folder.glob(".queue/jobs/*/job.json"):
        path.write_text(path.read_text(encoding="utf-8").replace(MADE_AT, str(folder)), encoding="utf-8")
    return folder


def described(job: Job) -> dict:
    """A job as jobs.json has it: names instead of paths."""
    found = asdict(job)
    found["settings"]["first_image"] = found["settings"]["first_image"] and Path(found["settings"]["first_image"]).name
    found |= {"folder": job.folder.name, "preview": job.preview and job.preview.name, "notices": list(found["notices"])}
    if found["result"]:
        found["result"]["path"] = Path(found["result"]["path"]).name
    return found


def check_jobs(found: list[Job], *lost: str) -> None:
    """Against what the old program itself said of them, apart from the fields `lost`."""
    known = json.loads((OLD / "jobs.json").read_text(encoding="utf-8"))
    assert len(found) == len(known) == 9 and {job["state"] for job in known} == {*JobState} - {JobState.PAUSED}
    for job, before in zip(found, known, strict=True):
        now = described(job)
        settings = ADDED_IN_3 | ADDED_IN_7 | ADDED_IN_9
        assert {name: now["settings"].pop(name) for name in settings} == settings
        assert {name: now[name] for name in before if name not in lost} == {
            name: value for name, value in before.items() if name not in lost
        }
        added = {name: value for name, value in now.items() if name not in before}
        blank = {"kind": JobKind.VIDEO, "worker": "", "project": "", "favourite": False, "tags": ()}
        blank |= {"source": "", "cut": False, "sound": None, "maker": "", "again": None}
        asked = Request.CANCEL if job.stopping else Request.NONE
        assert added == blank | {"position": job.created, "request": asked}


def check_gallery(queue: JobQueue, folder: Path) -> None:
    """Every video and picture is there, with the settings it was made with; those of the command line too."""
    entries = Gallery(queue, folder).list()
    files = {path for path in folder.rglob("*.*") if path.suffix in (".mp4", ".png") and ".first" not in path.name}
    made = [entry for entry in entries if entry.path]
    assert {entry.path for entry in made} == files and len(files) == 4 and sum(entry.job is None for entry in made) == 2
    for entry in made:
        record = ResolvedSettings.from_dict(read_metadata(entry.path.read_bytes())["settings"])
        assert asdict(entry.settings) | {"first_image": None} == asdict(record) | {"first_image": None}
        assert entry.poster and bool(record.first_image) == bool(entry.settings.first_image)
        assert not record.first_image or Path(entry.settings.first_image).read_bytes()[:4] == b"\x89PNG"


def test_a_folder_of_f100660_opens_with_everything(old: Path) -> None:
    database = old / ".queue" / "queue.sqlite"
    queue = JobQueue(old / ".queue")
    check_jobs(queue.list())
    check_gallery(queue, old)
    assert sqlite3.connect(database).execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    assert not list(database.parent.glob("queue.sqlite.*")), "nothing was set aside"
    left = next(job for job in queue.list() if job.state == JobState.RUNNING)
    assert left.stopping and queue.get(left.id).stopping
    queue.interrupt_running()
    prompts = [queue.claim().settings.prompt for _ in range(queue.count([JobState.QUEUED]))]
    assert prompts == ["failed and queued again", "waits"]
    assert queue.resume(left.id) and queue.claim().id == left.id and not queue.get(left.id).stopping
    queue.close()
    assert JobQueue(old / ".queue").count() == 9


def test_nothing_is_migrated_under_a_program_that_works_with_it(old: Path) -> None:
    owner = OwnerLock(old / ".queue", "the page on port 7860")
    assert owner.acquire()
    with pytest.raises(StudioError, match="in use by an older version.*port 7860"):
        JobQueue(old / ".queue")
    with sqlite3.connect(old / ".queue" / "queue.sqlite") as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] in schema.CHECKSUMS
    db.close()
    owner.release()
    check_jobs(JobQueue(old / ".queue").list())
    assert owner.acquire(), "the lock was only held meanwhile"


def test_a_lost_database_of_f100660_comes_back_from_its_folders(old: Path) -> None:
    """A job.json is written at turns alone: how far the running job was is not in it. States: test_jobs_faults."""
    (old / ".queue" / "queue.sqlite").write_bytes(b"not a database" * 500)
    with OwnerLock(old / ".queue"):  # while somebody works on the queue, states stay as they are
        queue = JobQueue(old / ".queue")
    check_jobs(queue.list(), "version", "phase", "progress", "preview", "notices")
    check_gallery(queue, old)


def write_old(folder: Path, version: int, settings: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with one waiting job as a program of that version wrote it."""
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:version])
        patch.setattr(schema, "VERSION", version)
        JobQueue(folder).close()
    row = {"id": "0123456789abcdef", "kind": "video", "state": "queued", "settings": settings, "created": 5.0}
    row |= {"phase": "", "notices": "[]", "attempts": 0, "position": 5.0, "version": 1}
    with sqlite3.connect(folder / "queue.sqlite") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (version,)
        db.execute(f"INSERT INTO jobs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
        db.row_factory = sqlite3.Row
        stored = dict(db.execute("SELECT * FROM jobs").fetchone())
    db.close()
    copy = {name: value for name, value in stored.items() if name not in schema.NOT_COPIED}
    (folder / "jobs" / row["id"]).mkdir(parents=True)
    (folder / "jobs" / row["id"] / "job.json").write_text(json.dumps({"format": version, **copy}))


def test_folders_of_later_versions_open_with_their_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they lack is added, in the table and in the copies that a lost table is made from: settings that version 3
    added, what version 5 says of clips that go on from others, and 8 of guests."""
    later = ADDED_IN_7 | ADDED_IN_9
    for version, lacking in ((2, ADDED_IN_3 | later), (4, later), (7, ADDED_IN_9), (9, {}), (10, {})):
        folder = tmp_path / str(version)
        plain = {name: value for name, value in asdict(SETTINGS).items() if name not in lacking}
        write_old(folder, version, json.dumps(plain), monkeypatch)
        for lose in (False, True):
            if lose:
                (folder / "queue.sqlite").unlink()
            queue = JobQueue(folder)
            (found,) = queue.list()
            assert asdict(found.settings) == plain | lacking and found.again is None
            assert (found.source, found.cut, found.position, found.maker) == ("", False, 5.0, "")
            assert found.state == (JobState.INTERRUPTED if lose else JobState.QUEUED)
            queue.close()


def test_a_folder_of_version_5_opens_with_its_videos_and_takes_sounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_old(tmp_path, 5, SETTINGS.to_json(), monkeypatch)
    queue, order = JobQueue(tmp_path), SoundOrder("/clips/a.mp4", {"version": 1, "lines": [{"text": "你好"}]})
    (before,) = queue.list()
    assert before.settings == SETTINGS and before.sound is None
    (made,) = queue.submit_all([SETTINGS], sound=order)
    assert (made.kind, made.sound, made.settings) == (JobKind.SOUND, order, SETTINGS)
    queue.close()
    (tmp_path / "queue.sqlite").unlink()
    assert {(job.id, job.kind, job.state) for job in JobQueue(tmp_path).list()} == {
        (before.id, JobKind.VIDEO, JobState.INTERRUPTED),
        (made.id, JobKind.SOUND, JobState.INTERRUPTED),
    }
    assert JobQueue(tmp_path).get(made.id).sound == order


def test_what_a_video_makes_again_is_kept_with_it_also_where_the_table_is_lost(tmp_path: Path) -> None:
    queue, again = JobQueue(tmp_path), {"plan": {"speed": "fast", "nodes": [[0.0, 9.0]]}, "model_fingerprint": "5a"}
    job = queue.submit(SETTINGS, again=again)
    assert job.again == again and job.settings == SETTINGS
    assert queue.list(search=Search(words=SETTINGS.prompt.split()[0])) == [job]
    (copy,) = verbs.duplicate(queue, job.id, [7])
    assert copy.again is None, "another seed is another video"
    assert verbs.put_back(queue, copy.id, SETTINGS, again=again).again == again
    assert verbs.put_back(queue, copy.id, SETTINGS).again is None
    (job.folder / filenames.LATENTS).write_bytes(b"latents")
    assert verbs.go_on(queue, job.id).again == again
    queue.close()
    (tmp_path / "queue.sqlite").unlink()
    assert JobQueue(tmp_path).get(job.id).again == again
    for wrong in ("[]", "3", '{"again": 3}', "{}"):
        with pytest.raises(InputError):
            read_stored(JobKind.VIDEO, wrong)


def test_folders_of_two_versions_are_restored_together(old: Path) -> None:
    queue = JobQueue(old / ".queue")
    queue.submit(SETTINGS)
    queue.interrupt_running()
    before = queue.list()
    formats = [json.loads(path.read_bytes()).get("format", 1) for path in queue.folder.glob("jobs/*/job.json")]
    assert sorted(formats) == [1] * 8 + [schema.VERSION] * 2
    queue.close()
    (queue.folder / "queue.sqlite").unlink()
    kept = [(job.id, job.state, job.position, job.settings, job.result, job.error) for job in before]
    with OwnerLock(queue.folder):
        again = [(job.id, job.state, job.position, job.settings, job.result, job.error) for job in queue.list()]
    assert again == kept


def test_what_does_not_fit_its_version_is_left_out(old: Path) -> None:
    queue = JobQueue(old / ".queue")
    job = queue.submit(SETTINGS)
    queue.close()
    (queue.folder / "queue.sqlite").unlink()
    row = json.loads((job.folder / "job.json").read_bytes())
    for change in (
        {"format": 1},
        {"format": 0},
        {"format": "2"},
        {"kind": "sound"},
        {"state": "?"},
        {"tags": 3},
        {"x": 1},
    ):
        (job.folder / "job.json").write_text(json.dumps(row | change))
        assert queue.count() == 9, change
        queue.close()
        (queue.folder / "queue.sqlite").unlink()
    (job.folder / "job.json").write_text(json.dumps(row))
    assert queue.count() == 10


def test_a_folder_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path)
    job = queue.submit(SETTINGS)
    queue.close()
    file, newer = tmp_path / "queue.sqlite", schema.VERSION + 1
    with sqlite3.connect(file) as db:
        db.execute("ALTER TABLE jobs ADD COLUMN stars INTEGER")
        db.execute(f"PRAGMA user_version = {newer}")
    db.close()
    before = file.read_bytes()
    with pytest.raises(StudioError, match=f"newer version.*version {newer}.*knows {schema.VERSION}.*--output-dir"):
        JobQueue(tmp_path)
    assert file.read_bytes() == before and not list(tmp_path.glob("queue.sqlite.*"))
    row = json.loads((job.folder / "job.json").read_bytes())
    (job.folder / "job.json").write_text(json.dumps(row | {"format": newer, "stars": 5}))
    file.unlink()
    with pytest.raises(StudioError, match="newer version"):
        JobQueue(tmp_path)
    assert not file.exists() and not list(tmp_path.glob("queue.sqlite*"))


def test_a_migration_is_whole_or_not_at_all(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that the disk is too full for leaves the old version, with which the next start begins again."""
    file = old / ".queue" / "queue.sqlite"
    broken = (*schema.MIGRATIONS[1][:8], "PRAGMA max_page_count = 1", "CREATE TABLE big (a)")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (schema.MIGRATIONS[0], broken))
        with pytest.raises(StudioError, match="cannot be written"):
            JobQueue(old / ".queue")
    names = {row[1] for row in sqlite3.connect(file).execute("PRAGMA table_info(jobs)")}
    assert "cancel" in names and "kind" not in names and not list(file.parent.glob("queue.sqlite.2*"))
    check_jobs(JobQueue(old / ".queue").list())
