"""`calibrate`: the fewest passes that serve the user's own checkpoint as well as the official sampler's."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from studio.commands.machine import engine_options, find_model, hold_device, opened, studio_config
from studio.commands.signals import STOPPING, stopping
from studio.commands.terminal import LOG_SECONDS, minutes
from studio.commands.user_files import read_file, read_picture
from studio.config import CalibrationPrompt, ModelConfig, StudioConfig, load_calibrations, load_camera_moves
from studio.errors import Cancelled, InputError
from studio.events import Event
from studio.examples import FOLDER as PICTURES
from studio.media import crop_image
from studio.pipeline.calibrate import FEWEST_SUBJECTS, QUICK, Candidates, Outcome, Setup, calibrate, most_passes
from studio.pipeline.calibration_file import remove_calibration, store_calibration
from studio.pipeline.endpoints import Endpoints, Subject
from studio.pipeline.engine import CACHE_FOLDER, EngineOptions, usable_folders
from studio.pipeline.estimate import Estimator
from studio.pipeline.evaluation_plan import EvaluationPlan, Rule
from studio.pipeline.generate import decode
from studio.pipeline.latents_file import LatentsFile
from studio.pipeline.run import Engine, Request
from studio.settings import GenerationSettings, ResolvedSettings

SEED = 1000  # of the first clip; the others' follow
WORK_FOLDER = "calibrate"  # inside the cache folder: endpoints, kept so that the same command goes on
CLIPS = 7  # decoded at the end, at most


@dataclass(frozen=True)
class Wish:
    """What is measured for one of a model's networks: requests at the small size, and the first one at another."""

    small: Sequence[ResolvedSettings]
    larger: ResolvedSettings
    pictures: Sequence[Path | None]
    candidates: Candidates


def run(options: argparse.Namespace) -> int:
    """Calibrate every network of a model, one after the other."""
    config, asked = studio_config(options), engine_options(options)
    model = find_model(options.model, config)
    if model.turbo:
        raise InputError("calibrate_turbo", model=model.name)
    wishes = {has_image: wish_for(options, model, has_image) for has_image in _kinds(model, options)}
    for has_image in wishes:
        usable_folders(model, has_image, config, asked)
    with stopping(STOPPING) as stop, hold_device(asked, stop, "calibrate on the command line"):
        for has_image, wish in wishes.items():
            _tell_before(wish, model, config, asked)
            with opened(model, has_image, config, asked, lambda event: None) as engine:
                try:
                    _calibrate(engine, wish, config, stop.is_set)
                except Cancelled:
                    print("\nStopped; the same command goes on from here.", file=sys.stderr)
                    return Cancelled.exit_code
    return 0


def _kinds(model: ModelConfig, options: argparse.Namespace) -> list[bool]:
    """Without and with a first image, as far as the model takes either, or as the user's prompts are."""
    kinds = [kind for kind, serves in ((False, model.takes_text_alone), (True, model.takes_image)) if serves]
    if options.prompts is None:
        return kinds
    given = {prompt.first_image is not None for prompt in _read_prompts(options.prompts)}
    return [kind for kind in kinds if kind in given] or kinds


def wish_for(options: argparse.Namespace, model: ModelConfig, has_image: bool) -> Wish:
    """The requests, checked. Raises InputError."""
    own = load_calibrations().get(model.name)
    prompts = _read_prompts(options.prompts) if options.prompts else own.prompts if own else ()
    fitting = [prompt for prompt in prompts if (prompt.first_image is not None) == has_image]
    if len(fitting) < FEWEST_SUBJECTS:
        raise InputError("calibrate_prompts", model=model.name, count=len(fitting), least=FEWEST_SUBJECTS)
    defaults = {"num_frames": 17, "height": model.sizes[0][0], "width": model.sizes[0][1]}
    size = {name: getattr(options, name) or (own.size if own else defaults)[name] for name in defaults}
    shared = {name: value for name in ("cfg_scale", "time_shift") if (value := getattr(options, name)) is not None}

    def settings(index: int, size: dict[str, int]) -> ResolvedSettings:
        prompt = fitting[index]
        asked = GenerationSettings(model.name, prompt.prompt, first_image=prompt.first_image, seed=SEED + index)
        values: dict[str, Any] = {**shared, **size}
        wanted = replace(asked, **values).resolve(model)
        wanted.check(model, load_camera_moves())
        return wanted

    folder = options.prompts.parent if options.prompts else PICTURES
    return Wish(
        small=[settings(index, size) for index in range(len(fitting))],
        larger=settings(0, dict(own.check) if own else defaults),
        pictures=[None if prompt.first_image is None else folder / prompt.first_image for prompt in fitting],
        candidates=QUICK if options.quick else Candidates(),
    )


def _read_prompts(path: Path) -> list[CalibrationPrompt]:
    """A prompt a line, with a tab and a picture's file name where it begins with one. Raises InputError."""
    try:
        lines = read_file(path).decode().splitlines()
    except UnicodeDecodeError as error:
        raise InputError("file_unreadable", file=path, reason=str(error)) from None
    pairs = [line.partition("\t") for line in lines if line.strip()]
    return [CalibrationPrompt(prompt.strip(), picture.strip() or None) for prompt, _, picture in pairs]


def _tell_before(wish: Wish, model: ModelConfig, config: StudioConfig, asked: EngineOptions) -> None:
    small, passes = wish.small[0], most_passes(len(wish.small), wish.candidates)
    seconds = calibration_seconds(wish, model, Estimator(config, asked))
    print(
        f"{model.name}, {'with a first image' if wish.pictures[0] else 'text alone'}: {len(wish.small)} prompts at "
        f"{_size(small)}, then one at {_size(wish.larger)}; at most {sum(passes.values())} passes, "
        f"about {minutes(seconds)}. Ctrl-C keeps what is done."
    )


def calibration_seconds(wish: Wish, model: ModelConfig, estimator: Estimator) -> float:
    """At most about so many seconds for one network, where nothing of it is known yet."""
    passes = most_passes(len(wish.small), wish.candidates)
    unknown = dict.fromkeys(("tflops", "link_gbps", "disk_gbps"))
    small = estimator.for_command(wish.small[0], model, unknown)
    larger = estimator.for_command(wish.larger, model, unknown)
    for made in (small, larger):
        if not made.plan.fits:
            raise InputError("no_plan", reason=dict(made.plan.reason))
    in_passes = (passes["small"] * small.plan.seconds_per_step + passes["larger"] * larger.plan.seconds_per_step) / 2
    texts = (len(wish.small) + 1) * (small.seconds["encode_text"] + small.seconds["encode_image"])
    return in_passes + texts + small.seconds["load"] + CLIPS * small.seconds["decode"]


def _calibrate(engine: Engine, wish: Wish, config: StudioConfig, cancelled: Callable[[], bool]) -> None:
    cache = config.output_dir / CACHE_FOLDER
    fingerprint = engine.provenance["model_fingerprint"]
    total = sum(most_passes(len(wish.small), wish.candidates).values())
    seconds = 0.1 if sys.stderr.isatty() else LOG_SECONDS
    with tqdm(total=total, unit="pass", file=sys.stderr, mininterval=seconds) as bar:

        def on_passes(count: int, known: bool) -> None:
            if known:  # not to be counted as speed
                bar.initial += count
                bar.n += count
            else:
                bar.update(count)

        endpoints = Endpoints(engine, cache / WORK_FOLDER, cancelled, on_passes)
        setup = _setup(endpoints, wish, config)
        outcome = calibrate(setup)
    found = outcome.calibration
    print("\n".join(report(outcome)))
    if found is None:
        remove_calibration(cache, fingerprint, outcome.cfg_scale, outcome.time_shift, has_image=engine.has_image)
    else:
        store_calibration(cache, fingerprint, found, has_image=engine.has_image)
        print(
            f"From now on --speed fast takes {2 * found.fast.nodes} passes where {2 * found.infer_steps} were "
            f"official, up to guidance {found.cfg_scale:g} and from time shift {found.time_shift:g} on."
        )
    folder = config.output_dir / f"calibrate-{engine.model.name}{'-image' if wish.pictures[0] else ''}"
    for name, plan in _clips(setup, outcome):
        _decode(setup.subjects[0], plan, folder / name, cancelled)
    print(f"One clip of each, for the eye: {folder}")


def _setup(endpoints: Endpoints, wish: Wish, config: StudioConfig) -> Setup:
    def subject(settings: ResolvedSettings, path: Path | None) -> Subject:
        image = read_picture(path, config)
        return endpoints.of(
            settings, crop_image(image, settings.height, settings.width, settings.crop_place) if image else None
        )

    return Setup(
        subjects=[subject(settings, path) for settings, path in zip(wish.small, wish.pictures, strict=True)],
        larger=subject(wish.larger, wish.pictures[0]),
        other_seed=subject(replace(wish.small[0], seed=SEED + len(wish.small)), wish.pictures[0]),
        candidates=wish.candidates,
    )


def report(outcome: Outcome) -> list[str]:
    """What was measured and chosen, as the lines of a table."""
    lines = ["", f"{'endpoint error':28s} passes    mean  maximum"]
    rows = [("official, 50 steps", 100, outcome.official), ("draft without calibration", 24, outcome.default_draft)]
    rows += [(_rule_words(rule), 2 * rule.nodes, errors) for rule, errors in outcome.finalists.items()]
    if outcome.draft is not None:
        rows.append((f"draft, {_rule_words(outcome.draft)}", 2 * outcome.draft.nodes, outcome.drafts[outcome.draft]))
    for name, passes, errors in rows:
        grew = f"   velocities grew {errors.growths} times" if errors.growths else ""
        lines.append(f"{name:28s} {passes:6d} {errors.mean:7.4f} {errors.maximum:8.4f}{grew}")
    lines.append(f"two seeds of one prompt: {outcome.seed_distance:.3f}; two dense runs: {outcome.dense_error:.4f}")
    if outcome.larger:
        words = ", ".join(f"{name} {error:.4f}" for name, error in outcome.larger.items())
        lines.append(f"at the larger size (nodes, error): {words}")
    if outcome.dense_growths:
        lines.append(
            f"Even the dense runs grew {outcome.dense_growths} times: growth tells nothing on this checkpoint."
        )
    if outcome.chosen is None:
        lines.append("No rule's worst error is below the official mean: none is kept for this guidance and time shift.")
    else:
        lines.append(f"Chosen: {_rule_words(outcome.chosen)}.")
    return lines


def _rule_words(rule: Rule) -> str:
    return f"{rule.nodes} nodes, k {rule.k:g}, theta {rule.theta:g}"


def _clips(setup: Setup, outcome: Outcome) -> Iterator[tuple[str, EvaluationPlan]]:
    """Names and plans of the clips to look at."""
    yield "dense", setup.dense
    yield "official", setup.official
    for rule in outcome.finalists:
        yield f"nodes-{rule.nodes}", rule.plan(setup.cfg_scale)
    if outcome.draft is not None:
        yield "draft", outcome.draft.plan(setup.cfg_scale)


def _decode(subject: Subject, plan: EvaluationPlan, stem: Path, cancelled: Callable[[], bool]) -> None:
    """Write a known endpoint as a video with its settings and plan inside."""
    picture = subject.picture
    settings = replace(subject.settings, speed=str(plan.speed), first_image=stem.name if picture else None)
    provenance = {"plan": plan.to_dict(), "forwards": plan.forwards}
    request = Request(settings, stem, subject.endpoints.folder, picture)

    def ignore(event: Event) -> None:
        """Nothing is shown of a few seconds."""

    saved = LatentsFile(subject.end(plan), settings, provenance)
    decode(request, saved, subject.endpoints.engine, ignore, cancelled)


def _size(settings: ResolvedSettings) -> str:
    return f"{settings.num_frames} frames of {settings.height}x{settings.width}"
