"""Locks between processes, and the log that names jobs."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from studio.errors import Cancelled, StudioError
from studio.queue.locks import POLL_SECONDS, DeviceLock, DeviceLocks, FileLock, OwnerLock, runtime_folder
from studio.queue.log import job_in_log, start_log
from tests.queue.fake_clock import FakeClock

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from studio.queue.locks import DeviceLock
lock = DeviceLock(Path(sys.argv[1]), "cuda:0", "the page's worker")
assert lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = OwnerLock(tmp_path, "page one"), OwnerLock(tmp_path, "page two")
    assert first.acquire() and first.acquire() and first.held
    assert not second.acquire() and not second.held
    assert second.holder().startswith("page one (process ")
    first.release()
    first.release()
    assert second.acquire() and first.holder().startswith("page two")


def test_devices_do_not_block_each_other(tmp_path: Path) -> None:
    names = ["cpu", "cuda:0", "cuda:1", "../../cuda:2"]
    locks = [DeviceLock(tmp_path, name) for name in names]
    assert all(lock.acquire() for lock in locks)
    assert len(list(tmp_path.glob("device-*.lock"))) == len(names)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert holder.stdout.readline() == "held\n"
    clock, reported = FakeClock(), []
    lock = DeviceLock(tmp_path, "cuda:0", clock=clock)
    clock.at(2.0, lambda: (holder.kill(), holder.communicate()))
    lock.wait(reported.append)
    assert lock.held and reported == [f"the page's worker (process {holder.pid})"], "said once, though asked 20 times"
    assert clock.slept == [POLL_SECONDS] * 20


def test_waiting_reports_each_holder(tmp_path: Path) -> None:
    clock, reported = FakeClock(), []
    first, second = FileLock(tmp_path / "a.lock", "first"), FileLock(tmp_path / "a.lock", "second")
    assert first.acquire()
    clock.at(1.0, lambda: (first.release(), second.acquire()))
    clock.at(2.0, second.release)
    FileLock(tmp_path / "a.lock", clock=clock).wait(reported.append)
    assert [holder.split(" ")[0] for holder in reported] == ["first", "second"]


def test_waiting_can_be_given_up(tmp_path: Path) -> None:
    held, lock = FileLock(tmp_path / "a.lock"), FileLock(tmp_path / "a.lock")
    with held:
        with pytest.raises(Cancelled):
            lock.wait(cancelled=lambda: True)
    with lock:
        assert lock.held
    assert not lock.held


def test_a_lock_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StudioError, match="could not be written"):
        OwnerLock(tmp_path / "file").acquire()


def test_the_runtime_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = runtime_folder()
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700 and runtime_folder() == folder
    folder.rmdir()
    folder.symlink_to("/")
    with pytest.raises(StudioError, match="another user"):
        runtime_folder()


def test_the_log_names_the_job_and_rotates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.queue.log.MAX_BYTES", 2000)
    root, level = logging.getLogger(), logging.getLogger().level
    before = list(root.handlers)
    try:
        path = start_log(tmp_path / "logs", "worker")
        log = logging.getLogger("studio.queue.worker")
        log.info("started")
        with job_in_log("0123456789abcdef"):
            log.warning("failed: 磁盘")
        text = path.read_text(encoding="utf-8")
        assert "INFO [-] studio.queue.worker: started" in text
        assert "WARNING [0123456789abcdef] studio.queue.worker: failed: 磁盘" in text
        for _ in range(200):
            log.info("x" * 100)
        files = sorted(file.name for file in path.parent.iterdir())
        assert files == ["worker.log", *(f"worker.log.{number}" for number in range(1, 5))]
        assert all(file.stat().st_size <= 2000 for file in path.parent.iterdir())
    finally:
        for handler in set(root.handlers) - set(before):
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
    with pytest.raises(StudioError):
        start_log(path, "worker")


def test_several_devices_are_held_together_or_not_at_all(tmp_path: Path) -> None:
    clock, reported = FakeClock(), []
    first, second = (DeviceLock(tmp_path, name, clock=clock) for name in ("cuda:0", "cuda:1"))
    both, other = DeviceLocks([first, second]), DeviceLock(tmp_path, "cuda:1", "generate")
    assert other.acquire()
    assert not both.acquire() and not both.held and not first.held, "one is in use: the other is free again"
    with pytest.raises(Cancelled):
        both.wait(cancelled=lambda: True)
    assert not first.held
    clock.at(1.0, other.release)
    both.wait(reported.append)
    assert both.held and len(reported) == 1 and reported[0].startswith("generate (process ")
    assert not other.acquire()
    both.release()
    assert other.acquire() and not first.held
