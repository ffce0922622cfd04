"""What is done with a stranger's files: each probe returns the sentence that refuses them, "" for sound ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.checkpoint import CheckpointError, build
from models.layout import COMPONENTS
from models.weight_files import read_table
from studio.checkpoints.inspect import inspect
from studio.commands.machine import find_model
from studio.commands.user_files import read_picture
from studio.config import load_camera_moves, load_models, load_studio
from studio.errors import StudioError
from studio.media import read_metadata_file
from studio.messages import LONGEST_SENTENCE, clean
from studio.pipeline.engine import EngineOptions, open_engine
from studio.pipeline.estimate import Estimator
from studio.pipeline.latents_file import check_whole, read_latents
from studio.pipeline.rerun import rerun_plan
from studio.settings import GenerationSettings

MODEL = "step-video-t2v"


MODELS, MOVES = load_models(), load_camera_moves()


def model_folder(models: str, outputs: str) -> str:
    """Everything that looks at a model before a job: inspect, the page's plan, opening it. All must agree.

    models: the model folder that holds MODEL. Returns inspect's problems, component by component.
    """
    folder = Path(models) / MODEL
    report = inspect(folder)
    problems = [(part.component, problem) for part in report.parts for problem in part.problems]
    lines = [f"{component}: {clean(problem, LONGEST_SENTENCE)}" for component, problem in problems]
    config = load_studio(model_dir=models, output_dir=outputs, ram_gb=4)
    model, options = MODELS[MODEL], EngineOptions("cpu")
    said = ""
    try:
        open_engine(model, False, load_camera_moves(), config, options)
        for component in COMPONENTS:  # as a job does, one after another
            build(folder, component)
    except (StudioError, CheckpointError) as error:
        said = str(error)
    if bool(said) == report.ok:
        raise AssertionError(f"inspect says {lines or 'sound'}, opening says {said or 'sound'}")
    settings = GenerationSettings(MODEL, "a red ball", num_frames=17, height=64, width=96).resolve(model)
    try:
        Estimator(config, options).for_page(settings, model)
    except StudioError as error:
        if report.ok:
            raise AssertionError(f"the plan says {error}, inspect nothing") from error
    return " | ".join(lines)


def picture(path: str) -> str:
    """What `--first-image` reads."""
    read_picture(path, load_studio())
    return ""


def settings(path: str) -> str:
    """What `--from-video` and a dropped file read, and the checks of any request."""
    record = read_metadata_file(Path(path))
    wanted = GenerationSettings.from_record(record)
    model = find_model(wanted.model, load_studio())
    resolved = wanted.resolve(model)
    resolved.check(model, MOVES)
    plan = rerun_plan(record, resolved) if "plan" in record else None
    for step in range(0 if plan is None else len(plan.nodes)):
        plan.weights(step)
    return ""


def latents(path: str) -> str:
    """What `decode` reads."""
    check_whole(read_latents(Path(path), lambda found: found.check(find_model(found.model, load_studio()), MOVES)))
    return ""


def header(path: str) -> str:
    """The table of a file of weights."""
    read_table(Path(path))
    return ""


PROBES: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (model_folder, picture, settings, latents, header)
}
