"""`evaluate`: clips of many prompts with one or more recipes, made through a queue of its own, scored and compared."""

import argparse
import importlib.util
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from models.regular_files import CheckpointError
from studio.commands.devices import WorkerDevice, ram_share_gb, worker_commands, worker_devices
from studio.commands.machine import engine_options, studio_config
from studio.commands.signals import STOPPING, end_with_stdin, stopping
from studio.commands.streams import tell
from studio.commands.terminal import minutes
from studio.config import StudioConfig, load_camera_moves, load_models
from studio.errors import Cancelled, InputError, StudioError
from studio.evals.posters import write_poster
from studio.evals.progress import Progress, read_progress
from studio.evals.recipes import Task, choose, load_recipes, make_tasks, select
from studio.evals.report import write_report
from studio.evals.results import Row, make_row, make_run
from studio.evals.run import CLIPS, LOCK, POSTERS, QUEUES, Evaluation, State, clip_of
from studio.evals.score_list import Measured
from studio.evals.scores_clip import Matcher
from studio.evals.scores_text import TextReader, asked_texts, has_reader
from studio.evals.suite import read_suite
from studio.memory.plan import WeightMode
from studio.messages import message
from studio.pipeline.engine import CACHE_FOLDER, usable_folders
from studio.queue.job import Job, JobState
from studio.queue.leftovers import remove_leftovers
from studio.queue.locks import FileLock
from studio.queue.log import start_log
from studio.queue.supervisor import Supervisor
from studio.units import GB

POLL_SECONDS = 1.0  # between two looks at the queue
LOCK_TRIES, LOCK_SECONDS = 5, 0.1  # a page may just look whether somebody works in the folder
PURPOSE = "evaluate on the command line"


def run(options: argparse.Namespace) -> int:
    """Make what is missing, score it, write the report. Exit code 1 where a clip failed."""
    config, folder = studio_config(options), options.to.resolve()
    devices = worker_devices(engine_options(options).device)
    tasks = checked_tasks(options, config, devices[0].device)
    matcher = None if options.no_scores else _matcher(config)
    with _held(folder), stopping(STOPPING) as stop, _told(folder):
        if options.until_stdin_ends:
            end_with_stdin()
        start_log(folder / QUEUES, "evaluate")
        evaluation = Evaluation(folder, tasks, config.image_limit_megapixels)
        evaluation.fill()
        scorer = Scorer(evaluation, options.no_scores, matcher)
        teller = Teller(evaluation, scorer, len(devices))
        Workers(options, config, devices).make(evaluation, scorer, teller, stop.is_set)
        while not stop.is_set() and scorer.one_more():
            tell(f"{scorer.measured} clips measured")
            teller.look()
        rows = scorer.rows()
        recipes = list({task.recipe.name: task.recipe for task in tasks}.values())
        done = make_run(folder, f"{Path(options.prompts).stem}: {', '.join(r.name for r in recipes)}", recipes, rows)
        done.store()
        report = write_report(done)
        teller.end(whole=not stop.is_set())
    print(report)
    if stop.is_set():
        tell("Stopped; the same command goes on from here.")
        return Cancelled.exit_code
    failed = [row for row in rows if row.error is not None and row.clip is None]
    for row in failed:
        tell(f"{row.case}, {row.recipe}, seed {row.settings['seed']}: {(row.error or {}).get('en')}")
    return 1 if failed else 0


def checked_tasks(options: argparse.Namespace, config: StudioConfig, device: str) -> list[Task]:
    """Everything to be made, checked before anything is written. Raises InputError."""
    if not options.no_scores and importlib.util.find_spec("cv2") is None:
        raise InputError("scores_missing")
    if vars(options).get("quantize"):
        raise InputError("evaluate_quantize", value=options.quantize)
    models = load_models()
    recipes = choose(options.recipe, load_recipes(models, options.recipes))
    cases = select(read_suite(options.prompts), options.limit, options.shuffle)
    tasks = make_tasks(cases, recipes, options.seeds, models, load_camera_moves())
    for model, weights, has_image in {(t.recipe.model, t.recipe.weights, t.picture is not None) for t in tasks}:
        asked = replace(engine_options(options), weights=WeightMode(weights), device=device)
        usable_folders(models[model], has_image, config, asked)
    return tasks


def _matcher(config: StudioConfig) -> Matcher | None:
    """The CLIP of the config, None where it names none. Raises InputError for a folder that holds no such CLIP."""
    if config.clip_dir is None:
        return None
    from models.clip_pair import ClipPair  # here: transformers takes seconds

    try:
        return ClipPair(config.clip_dir)
    except CheckpointError as error:
        raise InputError("clip_unusable", folder=config.clip_dir, reason=str(error)) from None


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """One evaluation at a time works in a folder. Raises StudioError where another does."""
    lock = FileLock(folder / LOCK, PURPOSE)
    for _ in range(LOCK_TRIES):
        if lock.acquire():
            break
        time.sleep(LOCK_SECONDS)
    else:
        raise StudioError("evaluation_busy", holder=lock.holder() or "another process", folder=folder)
    try:
        yield
    finally:
        lock.release()


class Workers:
    """The workers of one command: one on each device, for one kind of weights at a time."""

    def __init__(self, options: argparse.Namespace, config: StudioConfig, devices: Sequence[WorkerDevice]) -> None:
        self._options, self._devices = options, devices
        self._config = replace(config, ram_gb=ram_share_gb(config, len(devices))) if len(devices) > 1 else config

    def make(self, evaluation: Evaluation, scorer: "Scorer", teller: "Teller", stopped: Callable[[], bool]) -> None:
        """Run until every task has ended or the command is stopped. Raises StudioError where a worker cannot start."""
        while not stopped() and (weights := evaluation.weights_left()) is not None:
            supervisor = self._supervisor(evaluation, weights)
            supervisor.start()
            try:
                while not stopped() and evaluation.weights_left() == weights:
                    _watch(evaluation, supervisor, scorer, teller)
                teller.look()
            finally:
                supervisor.stop()

    def _supervisor(self, evaluation: Evaluation, weights: str) -> Supervisor:
        queue, results = evaluation.queues[weights], evaluation.folder / CLIPS
        flags: dict[str, object] = {"quantize": None if weights == "none" else weights, "results": results}
        commands = worker_commands(self._options, queue.folder, self._devices, self._config, **flags)
        clean = partial(remove_leftovers, queue, results, self._config.output_dir / CACHE_FOLDER)
        return Supervisor(queue, commands, purpose=PURPOSE, clean=clean)


def _watch(evaluation: Evaluation, supervisor: Supervisor, scorer: "Scorer", teller: "Teller") -> None:
    """One look at the queue. Raises StudioError where the worker cannot start."""
    if supervisor.trouble is not None:
        raise StudioError(supervisor.trouble.code, **supervisor.trouble.values)
    if supervisor.owns:
        evaluation.revive()
    teller.look()
    if not scorer.one_more():
        time.sleep(POLL_SECONDS)


class Teller:
    """Says on stderr how far it is whenever that changes, and what running jobs have to say, each once; the folder's
    progress.json says it to whoever looks from outside."""

    def __init__(self, evaluation: Evaluation, scorer: "Scorer", workers: int) -> None:
        self._evaluation, self._scorer, self._workers = evaluation, scorer, workers
        self._told: tuple[int, int] | None = None
        self._stored: Progress | None = None
        self._notices: set[tuple[str, str]] = set()

    def look(self) -> None:
        """Say what is new."""
        said = None
        for job in self._evaluation.jobs().values():
            for notice in job.notices if job.state == JobState.RUNNING else ():
                said = _both(notice.code, notice.values)
                if (job.id, notice.text) not in self._notices:
                    self._notices.add((job.id, notice.text))
                    tell(notice.text)
        state = self._evaluation.state()
        self._store(state, said)
        if (state.made, state.failed) != self._told:
            self._told = state.made, state.failed
            tell(_progress(state, self._evaluation.folder, self._workers))

    def end(self, whole: bool) -> None:
        """The report is written. whole: nothing is left to be made."""
        self._store(self._evaluation.state(), None, whole)

    def _store(self, state: State, notice: Mapping[str, str] | None, ended: bool = False) -> None:
        seconds = None if state.seconds_left is None else state.seconds_left / self._workers
        counts = (state.made, state.failed, state.waiting, self._scorer.measured)
        now = Progress(*counts, seconds, state.bytes_left, notice, ended)
        if now != self._stored:
            self._stored = now
            with suppress(OSError):  # a full disk costs a line of progress, no clip
                now.store(self._evaluation.folder)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Why it ends before its end stands in the folder's progress.json too."""
    try:
        yield
    except StudioError as error:
        with suppress(OSError):
            known = read_progress(folder) or Progress()
            replace(known, notice=None, error=_both(error.code, error.values)).store(folder)
        raise


def _both(code: str, values: Mapping[str, Any]) -> dict[str, str]:
    return {language: message(code, values, language) for language in ("en", "zh")}


def _progress(state: State, folder: Path, workers: int) -> str:
    """How far it is, the time and disk that it still needs, the disk that there is."""
    total = state.made + state.failed + state.waiting
    left = ""
    if state.waiting and state.seconds_left is not None and state.bytes_left is not None:
        left = f"; about {minutes(state.seconds_left / workers)} and {_size(state.bytes_left)} to go"
    failed = f", {state.failed} failed" if state.failed else ""
    free = shutil.disk_usage(folder).free / GB
    return f"{state.made} of {total} clips made{failed}{left}; {free:.1f} GB free"


def _size(count: float) -> str:
    return f"{count / GB:.1f} GB" if count > GB / 10 else f"{count / 2**20:.1f} MB"


class Scorer:
    """Measures finished clips and draws their posters, one at a time; what was done is found again."""

    def __init__(self, evaluation: Evaluation, without: bool, matcher: Matcher | None) -> None:
        self._evaluation, self._without = evaluation, without
        self._done: dict[str, Measured | None] = {}  # job id -> scores
        self._reader, self._matcher = TextReader() if has_reader() and not without else None, matcher

    def one_more(self) -> bool:
        """Measure one finished clip that is not measured yet. False where there is none."""
        for task, job in self._evaluation.results():
            if job is not None and job.id not in self._done and (clip := clip_of(job)):
                self._measure(task, job, clip)
                return True
        return False

    @property
    def measured(self) -> int:
        """How many clips are, by this process or an earlier one that it found again."""
        return len(self._done)

    def rows(self) -> list[Row]:
        """Every task as it stands."""
        return [
            make_row(task, job, self._done.get(job.id) if job else None, self._evaluation.folder)
            for task, job in self._evaluation.results()
        ]

    def _measure(self, task: Task, job: Job, clip: Path) -> None:
        poster = self._evaluation.folder / POSTERS / f"{job.id}.webp"
        try:
            if not poster.is_file():
                write_poster(clip, poster)
            self._done[job.id] = None if self._without else self._scores(task, clip)
        except StudioError as error:
            tell(str(error))
            self._done[job.id] = None

    def _scores(self, task: Task, clip: Path) -> Measured:
        from studio.evals.clip_scores import Helpers, known_scores, score_clip  # here: OpenCV is an extra

        helpers = Helpers(self._reader if asked_texts(task.settings.prompt) else None, self._matcher)
        return known_scores(clip, helpers) or score_clip(clip, task.settings, task.picture, helpers)
