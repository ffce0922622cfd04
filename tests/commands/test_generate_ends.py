"""What `generate` does around a video: folders of stopped runs, and what it learned, cannot cost the video."""

import os
import time
from pathlib import Path

import pytest

import app
from studio.pipeline.estimate import Estimator
from studio.queue.workfolder import DAY, KEPT_DAYS


def test_leftovers_are_removed_and_learning_that_fails_costs_nothing(
    model_dir: Path, outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, young = (outputs / ".work" / name for name in ("old", "young"))
    for folder, days in ((old, KEPT_DAYS + 1), (young, 1)):
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - days * DAY,) * 2)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(Estimator, "learn", fail)
    words = ["--model", "step-video-t2v", "--prompt", "x", "--num-frames", "1", "--height", "64", "--width", "96"]
    machine = ["--model-dir", str(model_dir), "--output-dir", str(outputs), "--device", "cpu", "--ram", "4"]
    assert app.main(["generate", *machine, *words, "--infer-steps", "1"]) == 0
    told = capsys.readouterr()
    assert Path(told.out.splitlines()[0]).is_file()
    assert "Removed what 1 stopped run left" in told.err and "could not be noted: CUDA error" in told.err
    assert not old.exists() and list((outputs / ".work").iterdir()) == [young]
