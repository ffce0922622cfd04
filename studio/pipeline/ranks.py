"""One video on several devices, as rank 0 sees it: guidance in parallel, and Ulysses among those that share a pass.

Rank 0 is the process that runs the recipe; the only sampler is its own, so that the ranks cannot drift apart. The
others are processes of rank_process.py. Whatever ends one of them ends all, with one reason.
"""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from studio.errors import Cancelled, RankLost, StudioError
from studio.pipeline.rank_group import Order, RankGroup, leave
from studio.pipeline.rank_process import DecodeJob, Opening, Promise, RankJob, Ready, flat, share_of, work
from studio.pipeline.rank_roles import Roles, check_count

if TYPE_CHECKING:
    from models.geometry import VideoShape
    from studio.memory.manager import MemoryManager
    from studio.memory.sessions import TransformerSession
    from studio.pipeline.encode import Conditioning
    from studio.pipeline.evaluation_plan import EvaluationPlan, Node
    from studio.pipeline.run import Engine
    from studio.pipeline.sampler import Passes

END_SECONDS = 20.0  # in which a rank ends by itself: a block takes seconds at most
POLL_SECONDS = 0.05
JOIN_SECONDS = 5.0  # in which ranks that are all there have joined
REASON_SECONDS = 5.0  # in which the reason behind a lost connection arrives


@dataclass(frozen=True)
class _Peer:
    """Another rank. control: jobs go to it, Ready, Promises or an error's (code, values) come back, which are kept."""

    device: str
    process: BaseProcess
    control: Connection
    promised: list[Promise] = field(default_factory=list)
    ready: list[Ready] = field(default_factory=list)

    def check(self) -> bool:
        """Whether it has said that it is ready. Raises the error it reports; RankLost where its process has ended."""
        try:
            said = self.control.recv() if self.control.poll() else None
        except (EOFError, OSError):
            self.process.join(POLL_SECONDS)
            said = None
        if isinstance(said, Ready):
            self.ready.append(said)
        elif isinstance(said, Promise):
            self.promised.append(said)
        elif said is not None:
            code, values = said
            raise StudioError(code, **values)
        elif not self.process.is_alive():
            raise RankLost(self.device, self.process.exitcode)
        return bool(self.ready)


class _Joining(Thread):
    """Joins a group beside the calling thread, since nothing interrupts that. group: once it is joined."""

    def __init__(self, join: Callable[[], RankGroup]) -> None:
        super().__init__(name="join ranks", daemon=True)
        self._make = join
        self.group: RankGroup | None = None
        self._error: Exception = RuntimeError("the thread that joined the ranks ended early")

    def run(self) -> None:
        try:
            self.group = self._make()
        except (RuntimeError, ValueError, OSError) as error:
            self._error = error

    def joined(self) -> RankGroup:
        """The group, once the thread has ended. Raises what joining it raised."""
        if self.group is None:
            raise self._error
        return self.group


def _place(reason: StudioError) -> int:
    """Where a reason stands among several: what a rank says of others that it has lost comes last."""
    if isinstance(reason, RankLost):
        return 0 if reason.killed else 2
    return 3 if reason.code == "rank_failed" else 1


class Ranks:
    """The other ranks of this process, which is rank 0; they run from `start` to `close`."""

    def __init__(self, opening: Opening) -> None:
        """opening: of two devices or more; `check_count` says how many a model can use."""
        self.opening = opening
        self._context = multiprocessing.get_context("forkserver")
        self._stop = self._context.Event()
        self._folder = tempfile.TemporaryDirectory(prefix="ranks-")
        self._peers: list[_Peer] = []
        self._group: RankGroup | None = None
        self._joining: _Joining | None = None
        self._cancelled: Callable[[], bool] = lambda: False

    @property
    def count(self) -> int:
        """How many there are, this process included."""
        return len(self.opening.devices)

    @property
    def alive(self) -> bool:
        """Whether the other processes all run."""
        return all(peer.process.is_alive() for peer in self._peers)

    def start(self) -> Ranks:
        """Start the other processes, which open the model while this one goes on."""
        self._context.set_forkserver_preload(["torch", work.__module__])
        for rank in range(1, self.count):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(
                target=work, args=(rank, self.opening, self._meeting, theirs, self._stop), daemon=True
            )
            process.start()
            theirs.close()
            self._peers.append(_Peer(self.opening.devices[rank], process, ours))
        return self

    def close(self) -> None:
        """End all ranks, whatever they do."""
        if (joining := self._joining) is not None and self._group is None:
            joining.join(JOIN_SECONDS if self.alive else 0.0)
            self._group = joining.group
        self._joining, was_joined = None, self._group is not None
        self._stop.set()
        for peer in self._peers:
            if self._group is not None and peer.process.is_alive():
                self._send(peer, None)
        if self._group is not None:
            self._group.close()
            self._group = None
        for peer in self._peers:
            peer.process.join(END_SECONDS)
            peer.process.kill()
            peer.process.join()
            peer.control.close()
        self._peers = []
        if joining is not None and not was_joined:  # whoever was to join as well is gone
            joining.join(POLL_SECONDS)
            leave()
        self._folder.cleanup()

    def roles(self, heads: int, video: VideoShape, *, guided: bool) -> Roles:
        """Who computes what of a video. Raises InputError where so many devices cannot share it."""
        check_count(self.count, heads, guided=guided)
        grid = video.latent_frames, video.latent_height, video.latent_width
        return Roles.of(self.count, heads, grid, self.opening.token_chunk, guided=guided)

    @contextmanager
    def passes(
        self,
        memory: MemoryManager,
        transformer: TransformerSession,
        conditioning: Conditioning,
        plan: EvaluationPlan,
        job: tuple[VideoShape, Roles],
        cancelled: Callable[[], bool],
    ) -> Iterator[Passes]:
        """The passes of a plan, each rank its part. memory: this rank's; job: the video, and the roles for it.

        All ranks have one plan of their memory, within the least of their budgets. The passes raise Cancelled between
        blocks and while they wait, StudioError where another rank fails, RankLost where it ends. Nothing but `close`
        may follow an error.
        """
        video, roles = job
        self._cancelled, channels = cancelled, transformer.latent_channels
        group = self._join()
        lead = memory.lead(video, [ready.budgets for peer in self._peers for ready in peer.ready])
        for rank, peer in enumerate(self._peers, 1):
            texts = conditioning.texts[roles.texts(rank)]
            self._send(peer, RankJob(video, replace(conditioning, texts=texts), roles, lead))
        own = replace(conditioning, texts=conditioning.texts[roles.texts(0)])
        here = own.passes(transformer, cancelled, last=plan.nodes[-1])
        if (share := share_of(roles, group, self.opening.token_chunk)) is not None:
            transformer.divide(share)

        def run_passes(latents: Tensor, node: Node) -> list[Tensor]:
            with self._losses():
                group.give(Order(node.time, node.passes, node is plan.nodes[-1]), latents)
                rows = flat(here(latents, node))
                counts = [roles.elements(rank, node.passes, channels) for rank in range(self.count)]
                return roles.velocities(group.gather(rows, counts), node.passes, channels)

        with self._threads():
            yield run_passes
        with self._losses():
            group.give(None, torch.empty(0))

    def promises(self, engine: Engine, video: VideoShape) -> list[Promise]:
        """What each rank promised of the video whose first step is done, this one first. engine: this rank's."""
        for peer in self._peers:
            peer.check()
        own = Promise.of(self.opening.devices[0], engine, video)
        return [own, *(peer.promised[-1] for peer in self._peers if peer.promised)]

    @contextmanager
    def decoding(
        self, latents: Tensor, video: VideoShape, dtype: torch.dtype, cancelled: Callable[[], bool]
    ) -> Iterator[Callable[[int], Tensor | None]]:
        """Chunks of finished latents in turns: what decodes a chunk elsewhere, for VAESession.decode_chunks.

        The last two chunks can be asked for again. Raises as `passes`.
        """
        self._cancelled = cancelled
        group, shape = self._join(), (1, video.frames // video.chunks, 3, video.height, video.width)
        for peer in self._peers[: video.chunks - 1]:
            self._send(peer, DecodeJob(video, latents.cpu()))
        found: dict[int, Tensor] = {}

        def elsewhere(chunk: int) -> Tensor | None:
            if (rank := chunk % self.count) == 0:
                return None
            if chunk not in found:
                for old in [known for known in found if known < chunk - 1]:
                    del found[old]
                found[chunk] = torch.empty(shape, dtype=dtype)
                with self._losses():
                    group.receive(found[chunk], rank)
            return found[chunk]

        yield elsewhere

    @property
    def _meeting(self) -> Path:
        return Path(self._folder.name) / "meeting"

    def _join(self) -> RankGroup:
        """The group, once all ranks have opened the model."""
        if self._group is not None:
            return self._group
        waiting = list(self._peers)
        while waiting := [peer for peer in waiting if not peer.check()]:
            self._check_cancelled()
            sleep(POLL_SECONDS)
        self._joining = joining = _Joining(
            lambda: RankGroup(0, self.count, self._meeting, self._check, cuda=self.opening.has_gpus)
        )
        joining.start()
        with self._losses():
            while joining.is_alive():
                self._check()
                joining.join(POLL_SECONDS)
            self._group = joining.joined()
        return self._group

    def _check(self) -> None:
        self._check_cancelled()
        for peer in self._peers:
            peer.check()

    def _check_cancelled(self) -> None:
        if self._cancelled():
            raise Cancelled

    @contextmanager
    def _losses(self) -> Iterator[None]:
        """A broken connection, or the first rank that was found to have ended, becomes the reason behind it."""
        try:
            yield
        except (RankLost, RuntimeError) as error:
            if (reason := self._reason(error)) is error:
                raise
            raise reason from error
        except StudioError as error:
            raise (self._reason(error) if error.code == "rank_failed" else error) from None

    def _reason(self, error: Exception) -> Exception:
        """The first of all reasons that the ranks have; others have ended because of it."""
        found: list[StudioError] = [error] if isinstance(error, StudioError) else []
        began = monotonic()
        while monotonic() - began < (REASON_SECONDS if found else END_SECONDS):
            if any(_place(reason) <= 1 for reason in found):
                break
            for peer in self._peers:
                try:
                    self._check_cancelled()
                    peer.check()
                except StudioError as reason:
                    if isinstance(reason, Cancelled):
                        return reason
                    found.append(reason)
            sleep(POLL_SECONDS)
        return min(found, key=_place) if found else error

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """As many threads as each rank has, where they share the CPU."""
        before, wanted = torch.get_num_threads(), self.opening.threads
        torch.set_num_threads(wanted or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _send(self, peer: _Peer, job: RankJob | DecodeJob | None) -> None:
        """By value: what a plain connection sends of tensors is shared memory."""
        try:
            peer.control.send_bytes(pickle.dumps(job))
        except OSError:  # it has ended
            if job is not None:
                self._check()
                raise
