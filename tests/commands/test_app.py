"""The command line as a user types it: exit codes, sentences, files."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from studio.commands.cli import main
from studio.config import ROOT
from studio.embedded import carried_picture
from studio.filenames import LAST_FRAME
from studio.media import crop_image, read_image, read_video
from studio.pipeline.engine import CACHE_FOLDER, open_engine
from studio.pipeline.latents_file import read_latents, save_latents
from studio.pipeline.run import Engine
from studio.queue.locks import DeviceLock, runtime_folder

SIZE = ["--num-frames", "17", "--height", "64", "--width", "96", "--infer-steps", "3"]


@pytest.fixture(scope="module")
def cache(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the runs of this file remember of the machine and of the models: measured and fitted once."""
    return Path(shutil.copytree(measured, tmp_path_factory.mktemp("cache") / "cache"))


@pytest.fixture
def call(model_dir: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    """call("generate", ...) -> (exit code, stdout, stderr)."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / CACHE_FOLDER).symlink_to(cache)

    def run(*words: object) -> tuple[int, str, str]:
        machine = ["--model-dir", model_dir, "--output-dir", outputs, "--device", "cpu", "--ram", "4"]
        command, *rest = words
        capsys.readouterr()
        code = main([str(word) for word in (command, *machine, *rest)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (90, 120, 3)).astype(np.uint8)).save(path)
    return path


def latents(stem: Path) -> torch.Tensor:
    return read_latents(stem.with_name(stem.name + ".latents.safetensors")).state.latents


WRONG = [
    (["--model", "step-video-t2v", "--prompt", "x", "--height", "100"], "use 96 or 112"),
    (["--model", "step-video-t2v", "--prompt", "x", "--num-frames", "20"], "use 17 or 34"),
    (["--model", "step-video-t2v", "--prompt", "x", "--num-frames", "5"], "use 1 or 17"),
    (["--model", "step-video-ti2v", "--prompt", "x", "--num-frames", "136", "--first-image", "x"], "use 102 or fewer"),
    (["--model", "step-video-t2v", "--prompt", "x", "--cfg-scale", "nan"], "not a number"),
    (["--model", "step-video-t2v", "--prompt", "x", "--cfg-scale", "0.5"], "between 1"),
    (["--model", "step-video-t2v", "--prompt", "x", "--infer-steps", "0"], "between 1 and 200"),
    (["--model", "step-video-t2v", "--prompt", "x", "--seed", "-1"], "between 0"),
    (["--model", "step-video-t2v", "--prompt", "x", "--motion-score", "5"], "has no motion score"),
    (["--model", "step-video-t2v", "--prompt", "x", "--camera-move", "sideways"], "the moves are: fixed"),
    (["--model", "step-video-t2v", "--prompt", "  "], "prompt is empty"),
    (["--model", "step-video-t2v", "--prompt", "x" * 2001], "shorten it by 1"),
    (["--model", "step-video-ti2v", "--prompt", "x"], "starts from a picture"),
    (["--model", "step-video-ti2v", "--prompt", "x", "--first-image", "absent.png"], "cannot be read"),
    (["--model", "step-video-t2v-turbo", "--prompt", "x"], "download step-video-t2v-turbo"),
    (["--model", "nano-turbo", "--prompt", "x", "--first-image", "x"], "from text alone and cannot use a first image"),
    (["--model", "nano-turbo", "--prompt", "x", "--first-image", "x"], "or choose nano."),
    (["--model", "step-video-t2v-turbo", "--prompt", "x", "--first-image", "x"], "or choose step-video-ti2v."),
    (["--model", "stepvideo", "--prompt", "x"], "the models are: step-video-t2v"),
    (["--from-video", "absent.mp4"], "cannot be read"),
    (["--model", "step-video-t2v", "--prompt", "x", "--device", "tpu"], "auto, cpu, cuda or cuda:N"),
    (["--model", "step-video-t2v", "--prompt", "x", "--device", "cuda:98"], "cuda:98 is not on this machine"),
]


def test_wrong_input_is_a_sentence_and_exit_code_2(call):
    wrong = []
    for words, sentence in WRONG:
        code, _, err = call("generate", *words)
        if code != 2 or sentence not in err or "Traceback" in err:
            wrong.append(f"{' '.join(words)[:60]}: {code}, {err}")
    assert not wrong, "\n".join(wrong)


def test_a_number_that_is_none_is_refused_by_the_parser(capsys):
    generate = ["generate", "--model", "step-video-t2v", "--prompt", "x"]
    refused = [[*generate, "--ram", "nan"], [*generate, "--vram", "-3"], [*generate, "--ram", "0"]]
    refused += [[*generate, "--num-frames", "1.5"], *(["--port", port] for port in ("0", "-5", "65536", "x"))]
    for words in refused:
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2 and words[-2] in capsys.readouterr().err, words


def test_a_taken_port_is_a_sentence(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["--output-dir", str(tmp_path), "--port", str(port)]) == 1
    assert f"Port {port} of 127.0.0.1 cannot be used" in capsys.readouterr().err


def test_an_image_for_a_text_model_is_refused(call, picture):
    code, _, err = call("generate", "--model", "step-video-t2v", "--prompt", "x", "--first-image", picture)
    assert code == 2 and "cannot use a first image" in err


def test_a_text_file_is_no_picture(call, tmp_path):
    (tmp_path / "note.png").write_text("hello")
    code, _, err = call(
        "generate", "--model", "step-video-ti2v", "--prompt", "x", "--first-image", tmp_path / "note.png"
    )
    assert code == 2 and "cannot be read as a picture" in err


def test_generate_then_again_from_the_video(call, picture, tmp_path):
    first, second = tmp_path / "first.mp4", tmp_path / "second.mp4"
    words = ["--model", "step-video-ti2v", "--prompt", "一只猫", "--first-image", picture, "--camera-move", "orbit"]
    words += ["--crop-left", 0.0, "--crop-top", 1.0]
    code, out, _ = call("generate", *words, *SIZE, "--seed", 3, "--output", first, "--keep-latents")
    assert code == 0 and str(first) in out and "seed 3" in out
    used = read_image((tmp_path / "first.first.png").read_bytes())
    given = read_image(picture.read_bytes())
    moved, middle = (crop_image(given, used.height, used.width, place) for place in ((0.0, 1.0), (0.5, 0.5)))
    assert used.tobytes() == moved.tobytes() != middle.tobytes()
    (tmp_path / "first.first.png").unlink()
    code, _, err = call("generate", "--from-video", first, "--output", second, "--keep-latents")
    assert code == 0, f"the video brings its first image: {err}"
    assert torch.equal(latents(tmp_path / "first"), latents(tmp_path / "second"))
    again = read_image((tmp_path / "second.first.png").read_bytes())
    assert again.tobytes() == used.tobytes(), "cropped at the same place, from the whole picture inside the video"
    assert carried_picture(second, 2**20) == picture.read_bytes()
    assert not list((tmp_path / "outputs" / ".work").iterdir()), "a finished job leaves no working files"

    code, _, err = call("generate", *words, *SIZE, "--output", first)
    assert code == 2 and "exists already" in err
    Image.new("RGB", (96, 64)).save(tmp_path / "first.first.png")
    code, _, err = call("generate", "--from-video", tmp_path / "first.json", "--output", tmp_path / "third.mp4")
    assert code == 2 and "not the one this video was made from" in err

    (tmp_path / "first.first.png").unlink()
    code, _, err = call("generate", "--from-video", tmp_path / "first.json", "--output", tmp_path / "third.mp4")
    assert code == 2 and "first.first.png is not there" in err


def test_a_rerun_says_what_else_has_changed(call, tmp_path):
    still = ["--num-frames", 1, "--height", 64, "--width", 96, "--infer-steps", 1]
    assert call("generate", "--model", "step-video-t2v", "--prompt", "x", *still, "--output", tmp_path / "a")[0] == 0
    record = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "b.json").write_text(json.dumps(record | {"torch": "0.1"}))
    code, _, err = call("generate", "--from-video", tmp_path / "b.json")
    assert code == 0 and f"torch 0.1, now {torch.__version__}" in err
    (tmp_path / "c.json").write_text(json.dumps({"settings": record["settings"]}))
    code, _, err = call("generate", "--from-video", tmp_path / "c.json")
    assert code == 2 and "which model files" in err


def test_no_result_replaces_another(call, tmp_path, monkeypatch):
    """Three with one prompt and seed in one second, and a folder as --output."""
    monkeypatch.setattr("studio.commands.user_files.time.time", lambda: 1e9)
    words = ["--model", "step-video-t2v", "--prompt", "x", "--num-frames", 1, "--height", 64, "--width", 96]
    words += ["--infer-steps", 1, "--seed", 1, "--output", tmp_path]
    made = {call("generate", *words)[1].splitlines()[0] for _ in range(3)}
    assert len(made) == 3 and {Path(path).parent for path in made} == {tmp_path}


def test_without_ffmpeg_nothing_is_begun(call, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nowhere"))
    code, _, err = call("generate", "--model", "step-video-t2v", "--prompt", "x", *SIZE)
    assert code == 1 and "ffmpeg was not found" in err and "Reading" not in err


def test_a_folder_that_takes_no_files_is_told_before_the_work(call, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", Path("/proc/self")):
        code, _, err = call("generate", "--model", "step-video-t2v", "--prompt", "x", *SIZE, "--output", folder / "a")
        assert code == 1 and "free" not in err and "could not be written" in err and "Reading" not in err


def test_decode_finishes_from_latents(call, tmp_path):
    words = ["--model", "step-video-t2v", "--prompt", "a ball", "--seed", 1, *SIZE]
    assert call("generate", *words, "--output", tmp_path / "a.mp4", "--keep-latents")[0] == 0
    kept = read_latents(tmp_path / "a.latents.safetensors")
    grown = save_latents(tmp_path / "grown", replace(kept.state, growths=3), kept.settings, kept.provenance)
    code, out, _ = call("decode", grown, "--output", tmp_path / "b.mp4")
    assert code == 0 and str(tmp_path / "b.mp4") in out and (tmp_path / "b.mp4").stat().st_size > 0
    was, told = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert told["velocity_growths"] == 3 and all(told[name] == was[name] for name in ("plan", "forwards"))
    early = save_latents(tmp_path / "early", replace(kept.state, step=2), kept.settings, kept.provenance)
    for words in ([], ["--frame", 1]):
        code, _, err = call("decode", early, *words, "--output", tmp_path / "e")
        assert code == 2 and "those of step 2, before the last one" in err and not list(tmp_path.glob("e.*"))
    code, _, err = call("decode", tmp_path / "a.mp4", "--output", tmp_path / "c.mp4")
    assert code == 2 and "holds no latents" in err
    video, still = read_video(tmp_path / "b.mp4"), tmp_path / "still.png"
    code, out, _ = call("decode", tmp_path / "a.latents.safetensors", "--frame", len(video), "--output", still)
    assert code == 0 and str(still) in out
    off = np.abs(np.asarray(Image.open(still)).astype(int) - video).mean((1, 2, 3))
    assert off.argmin() == len(video) - 1 and off.min() < 8, "the mp4 is compressed"
    assert not (tmp_path / LAST_FRAME).exists()
    code, _, err = call(
        "decode", tmp_path / "a.latents.safetensors", "--frame", len(video) + 1, "--output", tmp_path / "x"
    )
    assert code == 2 and "no part" in err


def test_the_device_is_held_before_its_memory_is_read(call, tmp_path, monkeypatch):
    """What is free is asked, and speeds are measured, only by whoever owns the device."""
    words = ["--model", "step-video-t2v", "--prompt", "x", "--num-frames", 1, "--height", 64, "--width", 96]
    words += ["--infer-steps", 1, "--output", tmp_path / "a", "--keep-latents"]
    free = []

    def look(*arguments: object) -> Engine:
        other = DeviceLock(runtime_folder(), "cpu", "a test")
        free.append(other.acquire())
        other.release()
        return open_engine(*arguments)

    monkeypatch.setattr("studio.commands.machine.open_engine", look)
    assert call("generate", *words)[0] == 0
    assert call("decode", tmp_path / "a.latents.safetensors", "--output", tmp_path / "b")[0] == 0
    assert free == [False, False]
    other = DeviceLock(runtime_folder(), "cpu", "a test")
    assert other.acquire(), "and it is released afterwards"
    other.release()


def test_the_page_says_that_int8_products_cannot_be_made_before_it_opens(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("studio.pipeline.engine.int8_compute_available", lambda: False)
    assert main(["--output-dir", str(tmp_path), "--device", "cpu", "--quantize", "int8-compute"]) == 2
    assert "pip install bitsandbytes" in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(model_dir, cache, tmp_path):
    (tmp_path / CACHE_FOLDER).symlink_to(cache)  # nothing is measured, which takes long on a crowded machine
    command = [sys.executable, str(ROOT / "app.py"), "generate", "--model-dir", str(model_dir), "--device", "cpu"]
    command += ["--output-dir", str(tmp_path), "--ram", "4", "--model", "step-video-t2v", "--prompt", "x"]
    command += ["--num-frames", "136", "--height", "128", "--width", "128", "--infer-steps", "200", "--seed", "4"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    work = tmp_path / ".work"
    while not list(work.glob("*/preview.webp")) and process.poll() is None:  # pytest's own limit ends what hangs
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130 and "--seed 4 goes on" in err, err
    assert list(work.glob("*/latents.safetensors"))


def test_inspect_says_what_a_folder_holds(model_dir, capsys):
    assert main(["inspect", str(model_dir / "step-video-ti2v")]) == 0
    assert "TI2V" in capsys.readouterr().out
    assert main(["inspect", str(model_dir)]) == 1


def test_plan_needs_neither_weights_nor_a_card(capsys, tmp_path):
    words = ["plan", "--model", "step-video-ti2v", "--num-frames", "102", "--height", "544", "--width", "992"]
    words += ["--model-dir", str(tmp_path), "--output-dir", str(tmp_path)]
    assert main([*words, "--vram", "24", "--ram", "64", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    keys = {"fits", "vram_peak_gb", "ram_peak_gb", "seconds_per_step", "resident_blocks", "streamed_blocks"}
    assert keys <= set(plan) and plan["fits"] and plan["vram_peak_gb"] <= 24 and plan["ram_peak_gb"] <= 64
    assert plan["resident_blocks"] + plan["streamed_blocks"] == 48
    assert plan["passes_by_speed"] == {"exact": 100, "fast": 58, "draft": 24} and not plan["calibrated"]
    seconds = plan["seconds_by_speed"]
    assert seconds["draft"] < 0.3 * seconds["exact"] < 0.6 * seconds["fast"] < 0.4 * seconds["exact"]
    assert main([*words, "--vram", "24", "--ram", "64"]) == 0
    assert f"texts kept {plan['texts_kept_gb']:14.1f} GB" in capsys.readouterr().out
    assert main([*words, "--vram", "4", "--ram", "64"]) == 1
    assert "It would fit with" in capsys.readouterr().out
    assert main([*words, "--height", "100", "--vram", "4"]) == 2
