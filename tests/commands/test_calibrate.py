"""`calibrate` as a user types it: what it refuses, the time it tells, and on nano the whole of it."""

import argparse
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from PIL import Image

from studio.commands import calibrate as command
from studio.commands.calibrate import Wish, calibration_seconds, wish_for
from studio.commands.cli import main
from studio.config import ROOT, load_calibrations, load_camera_moves, load_models, load_studio
from studio.examples import FOLDER as PICTURES
from studio.media import read_metadata
from studio.nano.captions import LANGUAGES, caption
from studio.nano.evaluate import held_out
from studio.pipeline.calibrate import QUICK
from studio.pipeline.calibration_file import known_calibrations
from studio.pipeline.endpoints import Endpoints, distance
from studio.pipeline.engine import CACHE_FOLDER, EngineOptions, open_engine
from studio.pipeline.estimate import Estimator
from studio.pipeline.evaluation_plan import Calibration, Rule
from studio.settings import ResolvedSettings
from tests.bench import bench_plans

NOTHING = {"prompts": None, "num_frames": None, "height": None, "width": None, "cfg_scale": None, "time_shift": None}
NANO = ["--model", "nano", "--cfg-scale", "4", "--time-shift", "13", "--infer-steps", "50"]
NANO += ["--height", "128", "--width", "128"]  # the size that it is calibrated at


def wish(name: str, has_image: bool, **given: object) -> Wish:
    options = argparse.Namespace(**NOTHING | {"quick": False} | given)
    return wish_for(options, load_models()[name], has_image)


def test_every_model_but_turbo_has_prompts_in_both_languages() -> None:
    kinds = {"step-video-t2v": [False], "step-video-ti2v": [True], "nano": [False, True]}
    assert set(kinds) == set(load_calibrations()) == {m.name for m in load_models().values() if not m.turbo}
    for name, images in kinds.items():
        for has_image in images:
            made = wish(name, has_image)
            chinese = [any("\u4e00" <= letter <= "\u9fff" for letter in settings.prompt) for settings in made.small]
            half = 4 if name == "nano" else 2
            assert sorted(chinese) == [False] * half + [True] * half
            assert len({settings.seed for settings in made.small}) == 2 * half
            assert made.larger.video_shape.tokens > made.small[0].video_shape.tokens
            for path in made.pictures:
                assert (path is not None) == has_image and (path is None or path.parent == PICTURES and path.is_file())


def test_no_prompt_of_a_calibration_is_one_of_the_proof() -> None:
    """Nor another wording of one of its scenes, nor a noise of its."""

    def letters(text: str) -> str:
        return "".join(letter for letter in text.casefold() if letter.isalnum())

    most = max(bench_plans.FULL.prompts.values())
    scenes = held_out(bench_plans.WORLD, bench_plans.FIRST + most)[bench_plans.FIRST :]
    numbers = range(bench_plans.FIRST, bench_plans.FIRST + most)
    proof = {
        letters(caption(scene, language, seed))
        for number, scene in zip(numbers, scenes, strict=True)
        for language in LANGUAGES
        for seed in (number, *range(20))
    }
    made = [settings for has_image in (False, True) for settings in wish("nano", has_image).small]
    assert len(scenes) == 80 and len(made) == 16
    assert not proof & {letters(settings.prompt) for settings in made}
    assert not set(numbers) & {settings.seed for settings in made}


def test_it_takes_at_most_an_hour_on_an_a100(tmp_path: Path) -> None:
    """By the planner's speeds for one (tests/bench/LOG.md); nothing of it was run there."""
    config = load_studio(model_dir=str(tmp_path), output_dir=str(tmp_path), vram_gb=80, ram_gb=128)
    for name, has_image in (("step-video-t2v", False), ("step-video-ti2v", True)):
        seconds = calibration_seconds(
            wish(name, has_image), load_models()[name], Estimator(config, EngineOptions("cuda"))
        )
        assert 900 < seconds <= 3600


def test_what_cannot_be_calibrated_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    few = tmp_path / "few.txt"
    few.write_text("a red square moves left\n一个蓝色的圆形\n", encoding="utf-8")
    wrong = []
    for words, sentence in (
        (["nano-turbo"], "nothing to calibrate"),
        (["nano", "--prompts", few], "there are 2"),
        (["nano", "--prompts", tmp_path / "absent"], "cannot be read"),
        (["nano", "--width", "70"], "use 64 or 80"),
        (["step-video-t2v", "--model-dir", tmp_path], "is not installed"),
        (["unknown"], "the models are"),
    ):
        code = main(["calibrate", *map(str, words), "--output-dir", str(tmp_path / "out")])
        err = capsys.readouterr().err
        if code != 2 or sentence not in err:
            wrong.append(f"{words}: {code}, {err}")
    assert not wrong, "\n".join(wrong)


def test_own_prompts_may_begin_with_pictures_beside_their_file(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "one.png")
    lines = ["\n", *(f"a red square moves {way}\tone.png\n" for way in ("left", "right", "up", "down"))]
    (tmp_path / "own.txt").write_text("".join(lines), encoding="utf-8")
    made = wish("nano", True, prompts=tmp_path / "own.txt", width=96, quick=True)
    assert [settings.prompt.split()[-1] for settings in made.small] == ["left", "right", "up", "down"]
    assert made.pictures == [tmp_path / "one.png"] * 4 and made.small[0].width == 96 and made.candidates == QUICK


def test_a_run_that_finds_no_rule_leaves_the_choices_of_other_guidance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, config = wish("nano", False), load_studio(output_dir=tmp_path)
    engine: Any = SimpleNamespace(
        provenance={"model_fingerprint": "ab" * 32}, has_image=False, model=load_models()["nano"]
    )
    choice = Calibration(Rule(14, 5.0, 0.8), None, 50, 4.0, 13.0, {})
    for name, value in (("_setup", None), ("report", []), ("_clips", [])):
        monkeypatch.setattr(command, name, lambda *asked, value=value: value)
    kept = []
    for cfg_scale, chosen in ((4.0, choice), (9.0, replace(choice, cfg_scale=9.0)), (9.0, None), (4.0, None)):
        outcome = SimpleNamespace(calibration=chosen, cfg_scale=cfg_scale, time_shift=13.0)
        monkeypatch.setattr(command, "calibrate", lambda setup, outcome=outcome: outcome)
        command._calibrate(engine, made, config, lambda: False)
        kept.append([found.cfg_scale for found in known_calibrations(tmp_path / CACHE_FOLDER, "ab" * 32)])
    assert kept == [[4.0], [4.0, 9.0], [4.0], []]


class Program:
    """app.py with an output folder of its own."""

    def __init__(self, outputs: Path) -> None:
        self.outputs = outputs

    def start(self, *words: str) -> subprocess.Popen:
        command = [sys.executable, str(ROOT / "app.py"), *words, "--output-dir", str(self.outputs), "--device", "cpu"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *words: str) -> str:
        process = self.start(*words)
        out, err = process.communicate()
        assert process.returncode == 0, err
        return out

    def video(self, name: str, *words: str) -> tuple[bytes, dict]:
        """The video's bytes and what its file says."""
        path = self.outputs / f"{name}.mp4"
        self.run("generate", *words, "--output", str(path), "--keep-latents")
        return path.with_suffix(".latents.safetensors").read_bytes(), read_metadata(path.read_bytes())


@pytest.mark.slow
def test_nano_is_calibrated_killed_resumed_and_used(tmp_path: Path) -> None:
    program, prompts = Program(tmp_path / "outputs"), tmp_path / "prompts.txt"
    own = [prompt.prompt for prompt in load_calibrations()["nano"].prompts if prompt.first_image is None][:4]
    prompts.write_text("\n".join(own), encoding="utf-8")
    calibrate = ["calibrate", "nano", "--quick", "--prompts", str(prompts), "--cfg-scale", "4", "--time-shift", "13"]
    first = program.start(*calibrate)
    for line in first.stderr:
        if (done := re.search(r"(\d+)/\d+ \[", line)) and int(done[1]) > 100:
            break
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs/.cache/calibrate").glob("*/*.safetensors")}
    out = program.run(*calibrate)
    assert kept and all(
        path.stat().st_mtime_ns == when for path, when in kept.items() if path.parent.name != "unfinished"
    )
    chosen = re.search(r"Chosen: (\d+) nodes, k ([\d.]+), theta ([\d.]+)", out)
    assert chosen, out
    clips = {path.name for path in (tmp_path / "outputs/calibrate-nano").glob("*.mp4")}
    assert {"dense.mp4", "official.mp4", f"nodes-{chosen[1]}.mp4"} <= clips

    words = [*NANO, "--prompt", "a green circle moves up", "--seed", "77"]  # no prompt of the calibration
    latents, record = program.video("default", *words)
    assert record["settings"]["speed"] == "fast" and record["plan"]["calibrated"] is True
    assert record["forwards"]["conditional"] == int(chosen[1]) < 50
    exact, _ = program.video("exact", *words, "--speed", "exact")
    truth = solution(record, tmp_path)
    assert distance(safetensors.torch.load(latents)["latents"], truth) < distance(
        safetensors.torch.load(exact)["latents"], truth
    )
    for file in (tmp_path / "outputs/.cache/calibrations").iterdir():
        file.unlink()
    again, repeated = program.video("again", "--from-video", str(tmp_path / "outputs/default.mp4"))
    assert repeated["plan"] == record["plan"] and latents_of(again) == latents_of(latents)
    _, plain = program.video("plain", *words)
    assert plain["settings"]["speed"] == "exact"


def solution(record: dict, folder: Path) -> torch.Tensor:
    """The latents that a dense run of a video's request ends at."""
    settings, config = ResolvedSettings.from_record(record), load_studio(output_dir=folder)
    engine = open_engine(load_models()["nano"], False, load_camera_moves(), config, EngineOptions("cpu"))
    dense = Rule(96, 3.0, 1.0).plan(settings.cfg_scale)
    return Endpoints(engine, folder / "solution").of(settings).end(dense).latents


def latents_of(data: bytes) -> bytes:
    """The tensors of a safetensors file, without its header."""
    return data[8 + int.from_bytes(data[:8], "little") :]
