"""Jobs of the queue on the machines of a Ray cluster: an actor on each card, a thread here that works for each.

The queue on this machine's disk stays the only truth. A thread takes jobs as a worker process does (worker.work) and
has its actor make them. An actor that dies is started anew by Ray; its job waits again, with its latents, for any card.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from studio.errors import Cancelled, StudioError
from studio.events import Event, Finished
from studio.filenames import job_result_stem
from studio.queue.job import Job
from studio.queue.jobs import JobQueue
from studio.queue.refused import differences, write_refused
from studio.queue.remote import Replay, package
from studio.queue.worker import Orders, Stop, caught, work

LOOK_SECONDS = 0.2  # between two looks for a person's wish while a job runs elsewhere
NODES_SECONDS = 1.0  # between two looks for machines that came or went
START_SECONDS = 300  # an actor imports PyTorch, from a slow disk perhaps
MOST_ATTEMPTS = 5  # of a job whose machines die under it
_log = logging.getLogger(__name__)


def connect(address: str) -> None:
    """Connect this process to the cluster. Raises StudioError where that fails."""
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
    except (RayError, ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StudioError("cluster_unreachable", address=address, reason=reason) from None


@dataclass
class Card:
    """One card of one machine, or several that share each video. name: by which its jobs are taken. gpus: how many.
    actors: of its machine, which has their RAM together. held: its actor answered and has not died since.
    """

    name: str
    node: str
    gpus: int
    make: Callable[["Card"], Any]
    about: Mapping[str, Any]
    actors: int = 1
    held: bool = False
    refused: bool = False
    different: str = ""  # why it is refused
    stop: Stop = field(default_factory=Stop)
    actor: Any = None

    def acquire(self) -> bool:
        """Whether its actor is there, of this version and with these models."""
        if self.refused:
            return False
        try:
            self.actor = self.actor or self.make(self)
            found = self._answer(self.actor.about.remote())
        except RayError as error:
            _log.warning("%s does not answer: %s", self.name, str(error).splitlines()[0])
            return False
        if found is None:
            return False
        if found != self.about:
            self.refused = True
            self.different = ", ".join(differences(found, self.about))
            _log.error("%s", StudioError("node_differs", node=self.name, different=self.different))
            return False
        self.held = True
        return True

    def _answer(self, asked: Any) -> Mapping[str, Any] | None:
        """What the actor says of itself; None where it did not begin, or its machine has gone."""
        for _ in range(START_SECONDS):
            ready, _ = ray.wait([asked], timeout=1.0)
            if ready or self.stop.asked:
                break
        return ray.get(asked) if ready else None

    def wait(self, on_wait: Callable[[str], None] | None = None, cancelled: Callable[[], bool] = lambda: False) -> None:
        """It was acquired before the job was taken."""

    def release(self) -> None:
        """Nothing to release: the actor keeps its model."""


class RemoteRunner:
    """A Runner whose jobs are made by the actor of a card. results: the folder of videos on this machine."""

    def __init__(self, card: Card, results: Path) -> None:
        self._card, self._results = card, results

    def run(self, job: Job, emit: Callable[[Event], None], orders: Orders) -> Finished:
        """Make the job there. An actor that dies lets the job wait again, with its latents (Cancelled)."""
        settings = job.settings
        stem = job_result_stem(self._results, settings.prompt, settings.seed, job.created, job.id)
        replay, told = Replay(job, stem, emit), set[str]()
        try:
            stream = self._card.actor.run.options(num_returns="streaming").remote(package(job))
            while True:
                for wish, wanted in (("stop", orders.stop), ("finish", orders.finish)):
                    if wish not in told and wanted():
                        told.add(wish)
                        self._card.actor.ask.remote(wish)
                ready, _ = ray.wait([stream], timeout=LOOK_SECONDS)
                if ready and (finished := replay.take(ray.get(next(stream)))) is not None:
                    return finished
        except (RayError, StopIteration) as error:
            self._card.held = False
            _log.error("%s was lost with job %s: %s", self._card.name, job.id, str(error).splitlines()[:1])
            if job.attempts >= MOST_ATTEMPTS:
                raise StudioError("node_lost", node=self._card.name, attempts=job.attempts) from None
            raise Cancelled from None

    def after(self, job: Job, result: Finished) -> None:
        """The actor has learned from it."""

    def release(self) -> None:
        """The actor keeps its model for the next job."""

    def aside(self, acquire: Callable[[], bool]) -> bool:
        """Nothing is asked of it between two jobs."""
        return False

    def idle(self) -> None:
        """Nothing is made ahead; the queue's upkeep is Cluster's."""


class Cluster:
    """Keeps a thread per card of the machines that are there. actor: the class of the actors, made with the number of
    actors on their machine; about: what they must answer to `about`; name: with which the names of all cards begin.
    group: the resource of a machine that says how many of its cards share each video. upkeep: of the queue, called as
    long as it is worked."""

    def __init__(
        self,
        queue: JobQueue,
        results: Path,
        actor: type,
        about: Mapping[str, Any],
        name: str,
        group: str = "",
        upkeep: Callable[[], None] = lambda: None,
    ) -> None:
        self._group, self._upkeep = group, upkeep
        self._queue, self._results, self._about, self._name = queue, results, about, name
        self._actor: Any = ray.remote(actor)
        self._cards: dict[str, tuple[Card, threading.Thread]] = {}
        self._told: dict[str, str] | None = None  # what the page knows of cards that make nothing

    def keep(self, stop: Stop) -> None:
        """Work the queue until `stop.asked`."""
        self._tell({})
        while not stop.asked:
            self.look()
            self._tell({name: card.different for name, (card, _) in self._cards.items() if card.refused})
            if isinstance(error := caught(self._upkeep), Exception):
                _log.warning("the queue's upkeep: %s", error, exc_info=error)
            time.sleep(NODES_SECONDS)
        self._tell({})
        for card, _ in self._cards.values():
            card.stop.asked = True
        for _, thread in self._cards.values():
            thread.join()

    def look(self) -> None:
        """Begin with cards that came, end with those whose machine is gone."""
        there: dict[str, Card] = {}
        for node in ray.nodes():
            if node["Alive"]:
                gpus, group = (
                    int(node["Resources"].get(kind, least)) for kind, least in (("GPU", 0), (self._group, 1))
                )
                actors = max(gpus // group, 1)
                for index in range(actors):
                    name = f"{self._name}/{node['NodeManagerAddress']}-{node['NodeID'][:6]}/{index}"
                    there[name] = Card(name, node["NodeID"], min(gpus, group), self._make, self._about, actors)
        for name in [name for name, (_, thread) in self._cards.items() if not thread.is_alive()]:
            del self._cards[name]
        for name, (card, _) in self._cards.items():
            card.stop.asked |= name not in there
        for name in there.keys() - self._cards.keys():
            thread = threading.Thread(target=self._work, args=(there[name],), name=name, daemon=True)
            self._cards[name] = there[name], thread
            _log.info("%s joined", name)
            thread.start()

    def _tell(self, refused: dict[str, str]) -> None:
        """Let the page know which cards make nothing, and why."""
        if refused == self._told:
            return
        try:
            write_refused(self._queue.folder, refused)
            self._told = refused
        except OSError as error:
            _log.warning("which cards make nothing cannot be written: %s", error)

    def _work(self, card: Card) -> None:
        work(self._queue, RemoteRunner(card, self._results), stop=card.stop, device=card, name=card.name)

    def _make(self, card: Card) -> Any:
        return self._actor.options(
            num_cpus=0 if card.gpus else 1,
            num_gpus=card.gpus,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=4,  # a job, and beside it wishes and questions
            scheduling_strategy=NodeAffinitySchedulingStrategy(card.node, soft=False),
        ).remote(card.actors)
