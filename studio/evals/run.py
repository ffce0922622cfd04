"""The tasks of an evaluation in queues on disk: filled once, found again after any end, one queue per kind of weights.

FOLDER/.queues/WEIGHTS holds a queue, whose worker is started with these weights; FOLDER/clips the results. A clip is
known by what decides it, so that a later call with other prompts, recipes or seeds makes only what is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from studio.evals.recipes import Task, task_key
from studio.queue.job import Job, JobState
from studio.queue.jobs import JobQueue

QUEUES, CLIPS, POSTERS = ".queues", "clips", "posters"
LOCK = ".evaluate.lock"  # held by the one process that works in the folder
KILLED = ("worker_killed", "worker_crashed", "worker_exited")  # errors of a job that say nothing of the job itself
Place = tuple[str, str]  # weights, task key
MOST_ATTEMPTS = 4  # of one job, before it counts as what kills its worker


@dataclass(frozen=True)
class State:
    """How far the tasks are. seconds_left: None until a clip of the first recipe is made; the same for bytes_left."""

    made: int
    failed: int
    waiting: int
    seconds_left: float | None
    bytes_left: float | None


class Evaluation:
    """The tasks of one call in one folder."""

    def __init__(self, folder: Path, tasks: Sequence[Task], limit_megapixels: float | None = None) -> None:
        self.folder, self.tasks = folder, sorted(tasks, key=_order)
        kinds = dict.fromkeys(task.recipe.weights for task in self.tasks)
        self.queues = {
            weights: JobQueue(folder / QUEUES / weights, limit_megapixels=limit_megapixels) for weights in kinds
        }
        self._keys: dict[str, str] = {}  # job id -> task key
        self._jobs: dict[Place, Job] = {}
        self._versions: tuple[int, ...] = ()  # of the queues when _jobs was read

    def jobs(self) -> Mapping[Place, Job]:
        """(weights, task key) -> its job. Raises StudioError where a queue cannot be read."""
        versions = tuple(queue.version() for queue in self.queues.values())
        if versions == self._versions:
            return self._jobs
        found = {}
        for weights, queue in self.queues.items():
            for job in queue.list():
                if job.id not in self._keys:
                    picture = Path(job.settings.first_image).read_bytes() if job.settings.first_image else None
                    self._keys[job.id] = task_key(job.settings, picture)
                found[weights, self._keys[job.id]] = job
        self._jobs, self._versions = found, versions
        return found

    def fill(self) -> int:
        """Queue every task that has no job, and again those that ended without a clip. Returns how many wait now."""
        there = dict(self.jobs())
        for task in self.tasks:
            queue = self.queues[task.recipe.weights]
            job = there.get(_place(task))
            if job is None:
                there[_place(task)] = queue.submit(task.settings, task.picture)
            elif job.resumable:
                queue.resume(job.id)
            elif job.state == JobState.FINISHED and not _has_clip(job):
                queue.delete(job.id)
                queue.submit(task.settings, task.picture)
        return self.state().waiting

    def revive(self) -> None:
        """Queue again what was interrupted, or ended with its worker's process, a few times."""
        for (weights, _), job in self.jobs().items():
            killed = job.state == JobState.FAILED and job.error is not None and job.error.code in KILLED
            if (job.state == JobState.INTERRUPTED or killed) and job.attempts < MOST_ATTEMPTS:
                self.queues[weights].resume(job.id)

    def state(self) -> State:
        """How far the tasks are."""
        jobs = self.jobs()
        mine = {_place(task): task for task in self.tasks}
        known = {place: jobs[place] for place in mine if place in jobs}
        made = {place: job for place, job in known.items() if job.state == JobState.FINISHED}
        failed = [job for job in known.values() if job.state in (JobState.FAILED, JobState.CANCELLED)]
        left = [place for place in mine if place not in made and known.get(place) not in failed]
        seconds = _left(left, made, mine, _seconds)
        size = _left(left, made, mine, lambda job: float(_size(job)))
        return State(len(made), len(failed), len(left), seconds, size)

    def weights_left(self) -> str | None:
        """The weights of the next tasks to be made; None when all are."""
        jobs = self.jobs()
        for task in self.tasks:
            job = jobs.get(_place(task))
            if job is None or job.state not in (JobState.FINISHED, JobState.FAILED, JobState.CANCELLED):
                return task.recipe.weights
        return None

    def results(self) -> list[tuple[Task, Job | None]]:
        """Every task with its job, in the order of recipes, cases and seeds as they were asked for."""
        jobs = self.jobs()
        return [(task, jobs.get(_place(task))) for task in self.tasks]


def clip_of(job: Job) -> Path | None:
    """The result of a finished job, None where there is none."""
    return Path(job.result.path) if job.state == JobState.FINISHED and job.result and _has_clip(job) else None


def _has_clip(job: Job) -> bool:
    return job.result is not None and Path(job.result.path).is_file()


def _place(task: Task) -> Place:
    return task.recipe.weights, task.key


def _order(task: Task) -> tuple[str, str, bool, int, int]:
    """Tasks that share an opened model come together, within them the cases in order, so that recipes grow together."""
    return (
        task.recipe.weights,
        task.recipe.model,
        task.picture is not None,
        task.case.number,
        task.seed_number,
    )


def _left(
    left: Sequence[Place], made: Mapping[Place, Job], mine: Mapping[Place, Task], measure: Callable[[Job], float]
) -> float | None:
    """The sum over what is left of the mean over what was made of the same recipe, else of all."""
    if not made:
        return None if left else 0.0
    by_recipe: dict[str, list[float]] = {}
    for place, job in made.items():
        by_recipe.setdefault(mine[place].recipe.name, []).append(measure(job))
    everything = [value for values in by_recipe.values() for value in values]
    total = 0.0
    for place in left:
        values = by_recipe.get(mine[place].recipe.name, everything)
        total += sum(values) / len(values)
    return total


def _seconds(job: Job) -> float:
    """Of the latest attempt: those of the phases, else from its start to its end."""
    return max((job.ended or 0.0) - (job.started or 0.0), 0.0)


def _size(job: Job) -> int:
    """Bytes of a result's files."""
    clip = clip_of(job)
    if clip is None:
        return 0
    return sum(path.stat().st_size for path in clip.parent.glob(f"{clip.stem}.*"))
