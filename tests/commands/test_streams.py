"""Closed pipes, an ASCII terminal, a deleted folder: the work is done, and what is told is a sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from studio.commands.cli import NO_TELEMETRY, main
from studio.config import ROOT

SMALL = ["--num-frames", "1", "--height", "64", "--width", "64", "--infer-steps", "1"]


def run(*words: object, shell: str = '"$@"', **changes: str) -> subprocess.CompletedProcess[bytes]:
    """app.py with these words, started by a line of the shell that may do more."""
    command = ["bash", "-c", shell, "bash", sys.executable, str(ROOT / "app.py"), *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **changes}
    return subprocess.run(command, capture_output=True, env=environment, timeout=300)


def generate(models: Path, outputs: Path) -> list[object]:
    machine = ["--model-dir", models, "--output-dir", outputs, "--device", "cpu", "--ram", 4]
    return ["generate", *machine, "--model", "step-video-t2v", "--prompt", "一只猫", *SMALL]


def test_a_video_is_made_where_nobody_hears_of_it(model_dir: Path, outputs: Path) -> None:
    """Both readers are gone, standard input is closed, and no character of the name is in the terminal's alphabet."""
    ascii_alone = {"PYTHONIOENCODING": "ascii"}
    gone = '"$@" <&- 2> >(exec true) | true; exit ${PIPESTATUS[0]}'
    ran = run(*generate(model_dir, outputs), shell=gone, **ascii_alone)
    assert ran.returncode == 0, ran
    assert len(list(outputs.glob("*一只猫*.png"))) == 1
    heard = run(*generate(model_dir, outputs), "--seed", 2, shell='"$@" 2>&-', **ascii_alone)
    assert heard.returncode == 0 and rb"\u4e00\u53ea\u732b-2.png" in heard.stdout, heard


def test_short_commands_end_quietly_where_nobody_reads(tmp_path: Path) -> None:
    code = "import sys; from studio.commands.cli import main; sys.exit(main(['inspect', sys.argv[1]]))"
    command = ["bash", "-c", '"$@" | true; exit ${PIPESTATUS[0]}', "bash", sys.executable, "-c", code, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, cwd=ROOT, timeout=300)
    assert ran.returncode in (1, 141) and b"Traceback" not in ran.stderr and b"Exception ignored" not in ran.stderr


def test_a_deleted_working_folder_and_names_that_are_no_paths_are_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    (tmp_path / "loop").symlink_to("loop")
    wrong = []
    for words in (["generate", "--model", "nano", "--prompt", "x"], ["plan", "--model", "nano"], ["inspect", "/"]):
        code, told = main(words), capsys.readouterr().err
        if code != 2 or "change to a folder that exists" not in told:
            wrong.append(f"{words}: {code} {told}")
    monkeypatch.chdir(tmp_path)
    for words in (
        ["inspect", "checkpoints"],
        ["inspect", str(tmp_path / "loop")],
        ["plan", "--model", "nano", "--output-dir", "~nobody-of-this-name/x"],
        ["plan", "--model", "nano", "--output-dir", str(tmp_path / "loop")],
    ):
        code, told = main(words), capsys.readouterr()
        if code not in (1, 2) or "Traceback" in told.err or not (told.err.strip() or told.out.strip()):
            wrong.append(f"{words}: {code} {told}")
    assert not wrong, "\n".join(wrong)


def test_nothing_is_told_to_others() -> None:
    """gradio and the hubs' clients read these when they are imported, which happens after `main` began."""
    code = (
        "import sys, studio.commands.cli as cli\n"
        "assert not {'gradio', 'huggingface_hub', 'transformers', 'modelscope_hub'} & set(sys.modules)\n"
        "cli.main(['inspect', sys.argv[1]])\n"
        "from huggingface_hub import constants\n"
        "import gradio.analytics\n"
        "print(constants.HF_HUB_DISABLE_TELEMETRY, gradio.analytics.analytics_enabled())\n"
    )
    clean = {name: value for name, value in os.environ.items() if name not in NO_TELEMETRY}
    ran = subprocess.run([sys.executable, "-c", code, "/"], cwd=ROOT, env=clean, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "True False", ran
