"""Work folders of stopped runs: removed when nobody came back, never under a process that works in one."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from studio.config import ROOT
from studio.errors import Cancelled
from studio.queue import workfolder
from studio.queue.workfolder import DAY, KEPT_DAYS, FolderLock, remove_leftovers, work_folder
from tests.queue.fake_clock import START, FakeClock

OLD = KEPT_DAYS * DAY


def left(root: Path, name: str, age: float, now: float = START) -> Path:
    """A work folder as a stopped run leaves it, `age` seconds before `now`."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "latents.safetensors").write_bytes(b"x")
    for path in (folder / "latents.safetensors", folder):
        os.utime(path, (now - age,) * 2)
    return folder


def test_old_folders_go_and_young_ones_stay(tmp_path):
    clock = FakeClock()
    old, young = left(tmp_path, "old", OLD + 1), left(tmp_path, "young", OLD - 1)
    saved_since = left(tmp_path, "saved", OLD + 1)
    os.utime(saved_since / "latents.safetensors", (START, START))
    assert remove_leftovers(tmp_path, clock) == ["old"]
    assert not old.exists() and young.exists() and saved_since.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved", "young"], "no locks are left"
    assert remove_leftovers(tmp_path, clock) == [] and remove_leftovers(tmp_path / "absent", clock) == []
    clock.sleep(2)
    assert remove_leftovers(tmp_path, clock) == ["young"]


def test_a_folder_in_use_stays_however_old_it_is(tmp_path):
    """The holder is another process; when it is killed, its lock goes with it."""
    folder, clock = left(tmp_path, "old", OLD + 1), FakeClock()
    code = (
        "import sys, time; from pathlib import Path; from studio.queue.workfolder import FolderLock\n"
        "lock = FolderLock(Path(sys.argv[1])); print(lock.acquire(), flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline().strip() == "True"
        assert remove_leftovers(tmp_path, clock) == [] and folder.exists()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert (tmp_path / "old.lock").exists(), "a killed process removes nothing"
    assert remove_leftovers(tmp_path, clock) == ["old"] and not list(tmp_path.iterdir())


def test_what_became_young_before_the_lock_was_taken_stays(tmp_path, monkeypatch):
    folder, acquire = left(tmp_path, "old", OLD + 1), FolderLock.acquire

    def another_run_first(lock: FolderLock) -> bool:
        os.utime(folder / "latents.safetensors", (START, START))
        return acquire(lock)

    monkeypatch.setattr(FolderLock, "acquire", another_run_first)
    assert remove_leftovers(tmp_path, FakeClock()) == [] and folder.exists()


def test_what_cannot_be_removed_is_not_said_to_be(tmp_path, monkeypatch):
    left(tmp_path, "old", OLD + 1)
    (tmp_path / "note").write_text("no folder of ours")
    os.utime(tmp_path / "note", (0, 0))
    monkeypatch.setattr(workfolder.shutil, "rmtree", lambda *_, **__: None)
    assert remove_leftovers(tmp_path, FakeClock()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["note", "old"]


def test_the_same_command_twice_waits_for_the_first(tmp_path):
    folder, clock, reported = tmp_path / "work", FakeClock(), []
    first = FolderLock(folder)
    assert first.acquire()
    with pytest.raises(Cancelled), work_folder(folder, reported.append, lambda: clock.seconds > 1.0, clock):
        pass
    clock.at(5.0, first.remove)
    with work_folder(folder, reported.append, lambda: False, clock):
        assert 5.0 <= clock.seconds < 5.2 and not FolderLock(folder).acquire()
    assert len(reported) == 2 and all(str(os.getpid()) in holder for holder in reported)
    assert not list(tmp_path.iterdir())


def test_many_that_take_turns_are_never_two_at_once(tmp_path):
    """The lock's file comes and goes with every turn."""
    folder, turns, most, here = tmp_path / "work", 40, [0], [0]

    def take_turns() -> None:
        for _ in range(turns):
            lock = FolderLock(folder)
            while not lock.acquire():
                time.sleep(0)
            here[0] += 1
            most[0] = max(most[0], here[0])
            folder.mkdir()  # fails where another is in
            time.sleep(0)
            shutil.rmtree(folder)
            here[0] -= 1
            lock.remove()

    threads = [threading.Thread(target=take_turns) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1] and here == [0] and not list(tmp_path.iterdir())
