"""Work folders of stopped runs: removed when nobody came back, never under a process that works in one."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from studio.commands.cli import main
from studio.config import ROOT
from studio.errors import Cancelled
from studio.queue import workfolder
from studio.queue.workfolder import DAY, KEPT_DAYS, FolderLock, remove_leftovers, work_folder

OLD = (KEPT_DAYS + 1) * DAY


def left(root: Path, name: str, age: float) -> Path:
    """A work folder as a stopped run leaves it, `age` seconds ago."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "latents.safetensors").write_bytes(b"x")
    for path in (folder / "latents.safetensors", folder):
        os.utime(path, (time.time() - age,) * 2)
    return folder


def test_old_folders_go_and_young_ones_stay(tmp_path):
    old, young = left(tmp_path, "old", OLD), left(tmp_path, "young", OLD - 2 * DAY)
    saved_since = left(tmp_path, "saved", OLD)
    os.utime(saved_since / "latents.safetensors")
    assert remove_leftovers(tmp_path) == ["old"]
    assert not old.exists() and young.exists() and saved_since.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved", "young"], "no locks are left"
    assert remove_leftovers(tmp_path) == [] and remove_leftovers(tmp_path / "absent") == []


def test_a_folder_in_use_stays_however_old_it_is(tmp_path):
    """The holder is another process; when it is killed, its lock goes with it."""
    folder = left(tmp_path, "old", OLD)
    code = (
        "import sys, time; from pathlib import Path; from studio.queue.workfolder import FolderLock\n"
        "lock = FolderLock(Path(sys.argv[1])); print(lock.acquire(), flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline().strip() == "True"
        assert remove_leftovers(tmp_path) == [] and folder.exists()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert (tmp_path / "old.lock").exists(), "a killed process removes nothing"
    assert remove_leftovers(tmp_path) == ["old"] and not list(tmp_path.iterdir())


def test_what_became_young_before_the_lock_was_taken_stays(tmp_path, monkeypatch):
    folder, acquire = left(tmp_path, "old", OLD), FolderLock.acquire

    def another_run_first(lock: FolderLock) -> bool:
        os.utime(folder / "latents.safetensors")
        return acquire(lock)

    monkeypatch.setattr(FolderLock, "acquire", another_run_first)
    assert remove_leftovers(tmp_path) == [] and folder.exists()


def test_what_cannot_be_removed_is_not_said_to_be(tmp_path, monkeypatch):
    left(tmp_path, "old", OLD)
    (tmp_path / "note").write_text("no folder of ours")
    os.utime(tmp_path / "note", (0, 0))
    monkeypatch.setattr(workfolder.shutil, "rmtree", lambda *_, **__: None)
    assert remove_leftovers(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["note", "old"]


def test_the_same_command_twice_waits_for_the_first(tmp_path):
    folder, told, inside = tmp_path / "work", [], []

    def second() -> None:
        with work_folder(folder, told.append, lambda: False):
            inside.append(time.monotonic())

    with work_folder(folder, told.append, lambda: False):
        other = threading.Thread(target=second)
        other.start()
        time.sleep(0.3)
        assert not inside and str(os.getpid()) in told[0]
        with pytest.raises(Cancelled), work_folder(folder, told.append, lambda: True):
            pass
    other.join(10)
    assert len(inside) == 1 and not list(tmp_path.iterdir())


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


def test_generate_removes_what_nobody_came_back_to_and_says_so(model_dir, tmp_path, capsys):
    old, young = left(tmp_path / ".work", "old", OLD), left(tmp_path / ".work", "young", DAY)
    words = ["--model", "step-video-t2v", "--prompt", "x", "--num-frames", "1", "--height", "64", "--width", "96"]
    machine = ["--model-dir", str(model_dir), "--output-dir", str(tmp_path), "--device", "cpu", "--ram", "4"]
    assert main(["generate", *machine, *words, "--infer-steps", "1"]) == 0
    assert "Removed what 1 stopped run left" in capsys.readouterr().err
    assert not old.exists() and list((tmp_path / ".work").iterdir()) == [young]
