"""Random histories of all that people and the worker do to a queue, against a plain list."""

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from studio.errors import StudioError
from studio.queue import verbs
from studio.queue.job import STOPPED, WAITING, JobState, Request
from studio.queue.jobs import JobQueue
from studio.queue.order import Where
from studio.queue.trash import Trash
from tests.queue.fake_clock import FakeClock
from tests.queue.test_jobs import SETTINGS

ROOT = Path(__file__).resolve().parents[2]


class VerbMachine(RuleBasedStateMachine):
    """Random verbs against a plain list: the order is the one that was asked for, and nothing is ever lost."""

    @initialize()
    def open(self) -> None:
        in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a flush costs nothing there
        self.folder = Path(tempfile.mkdtemp(dir=in_memory))
        self.queue = JobQueue(self.folder / ".queue", clock=FakeClock())
        self.trash = Trash(self.queue)
        self.states: dict[str, JobState] = {}
        self.asked: dict[str, Request] = {}
        self.removed: dict[str, JobState] = {}
        self.line: list[str] = []  # what waits, in order
        self.held = False

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            self.queue.close()
            shutil.rmtree(self.folder)

    def some(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(list(self.states)))  # as submitted: ids are random, their order must not be

    def waits(self, id: str) -> bool:
        return self.states[id] in WAITING

    def runs(self, id: str) -> bool:
        return self.states[id] == JobState.RUNNING

    def returned(self, id: str) -> None:
        """It waits again, wherever its old place now is among the others."""
        now = [job.id for job in self.queue.in_order() if job.state in WAITING]
        assert [other for other in now if other != id] == [other for other in self.line if other != id]
        self.line = now

    @rule(count=st.integers(1, 3))
    def submit(self, count: int) -> None:
        for job in self.queue.submit_all([SETTINGS] * count):
            self.states[job.id] = JobState.QUEUED
            self.line.append(job.id)

    @rule()
    def claim(self) -> None:
        job = self.queue.claim()
        first = next((id for id in self.line if self.states[id] == JobState.QUEUED), None)
        assert (job.id if job else None) == (None if self.held else first)
        if job:
            self.states[job.id], self.asked[job.id] = JobState.RUNNING, Request.NONE
            self.line.remove(job.id)

    @precondition(lambda self: self.states)
    @rule(data=st.data(), where=st.sampled_from(Where))
    def move(self, data: st.DataObject, where: Where) -> None:
        id, other = self.some(data), self.some(data)
        beside = where in (Where.BEFORE, Where.AFTER)
        runs = where == Where.AFTER and self.runs(other)
        fits = self.waits(id) and (not beside or runs or (self.waits(other) and id != other))
        assert verbs.move(self.queue, id, where, other) == fits
        if fits:
            self.line.remove(id)
            at = self.line.index(other) + (where == Where.AFTER) if beside and not runs else 0
            self.line.insert(len(self.line) if where == Where.LAST else at, id)

    @precondition(lambda self: self.states)
    @rule(data=st.data(), verb=st.sampled_from(["pause", "skip", "cancel"]))
    def ask(self, data: st.DataObject, verb: str) -> None:
        id = self.some(data)
        act = self.queue.cancel if verb == "cancel" else lambda id: getattr(verbs, verb)(self.queue, id)
        done, state = act(id), self.states[id]
        if state == JobState.RUNNING:
            assert done
            self.asked[id] = Request(verb)
        elif verb == "pause":
            assert done == (state == JobState.QUEUED)
            self.states[id] = JobState.PAUSED if done else state
        else:
            assert done == (state in WAITING)
            if done:
                self.line.remove(id)
                self.line += [id] if verb == "skip" else []
                self.states[id] = state if verb == "skip" else JobState.CANCELLED

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def stopped(self, data: st.DataObject) -> None:
        id = self.some(data)
        asked = self.asked.get(id)
        state = {Request.CANCEL: JobState.CANCELLED, Request.PAUSE: JobState.PAUSED}.get(asked, JobState.QUEUED)
        assert self.queue.stopped(id) == (state if self.runs(id) else None)
        if self.runs(id):
            self.states[id] = state
            if asked == Request.SKIP:
                self.line.append(id)
            elif state in WAITING:
                self.returned(id)

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        id = self.some(data)
        state = self.states[id]
        stopping = state == JobState.RUNNING and self.asked[id] != Request.NONE
        assert self.queue.resume(id) == (stopping or state in (*STOPPED, JobState.PAUSED))
        if stopping:
            self.asked[id] = Request.NONE
        elif state in (*STOPPED, JobState.PAUSED):
            self.states[id] = JobState.QUEUED
            self.returned(id)

    @rule(held=st.booleans())
    def hold(self, held: bool) -> None:
        if held:
            verbs.hold(self.queue)
            running = [id for id in self.states if self.runs(id)]
            self.asked |= {id: Request.HOLD for id in running if self.asked[id] == Request.NONE}
        else:
            assert verbs.let_go_on(self.queue) == self.held
            for id in self.states:
                if self.runs(id) and self.asked[id] == Request.HOLD and self.held:
                    self.asked[id] = Request.NONE
        self.held = held

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        id = self.some(data)
        assert verbs.take_back(self.queue, id) == self.waits(id)
        if self.waits(id):
            self.states[id] = JobState.PAUSED
            assert verbs.put_back(self.queue, id, replace(SETTINGS, prompt="edited")).settings.prompt == "edited"
            self.states[id] = JobState.QUEUED

    @precondition(lambda self: self.states)
    @rule(data=st.data(), count=st.integers(1, 3))
    def duplicate(self, data: st.DataObject, count: int) -> None:
        id = self.some(data)
        copies = [job.id for job in verbs.duplicate(self.queue, id, range(count))]
        self.states |= dict.fromkeys(copies, JobState.QUEUED)
        at = self.line.index(id) + 1 if self.waits(id) else len(self.line)
        self.line[at:at] = copies

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        id = self.some(data)
        if self.runs(id):
            with pytest.raises(StudioError):
                self.trash.remove(id)
        else:
            assert self.trash.remove(id)
            self.removed[id] = self.states.pop(id)
            self.line = [other for other in self.line if other != id]

    @precondition(lambda self: self.removed)
    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(list(self.removed)))
        assert self.trash.undo(id) == id
        self.states[id] = self.removed.pop(id)
        if self.waits(id):
            self.returned(id)

    @rule()
    def open_again(self) -> None:
        """As after kill -9 of everything: what ran is interrupted."""
        self.queue.close()
        self.queue = JobQueue(self.folder / ".queue", clock=FakeClock())
        self.trash = Trash(self.queue)
        self.trash.settle()
        for id in self.queue.interrupt_running():
            self.states[id] = JobState.INTERRUPTED

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "queue"):
            return
        jobs = self.queue.list()
        assert {job.id: job.state for job in jobs} == self.states
        in_order = self.queue.in_order()
        assert [job.id for job in in_order if job.state in WAITING] == self.line
        assert [job.state == JobState.RUNNING for job in in_order] == sorted(
            (job.state == JobState.RUNNING for job in in_order), reverse=True
        )
        assert {path.name for path in self.queue.folder.glob("jobs/*")} == set(self.states)
        assert {removed.id for removed in self.trash.list()} == set(self.removed)


TestVerbMachine = VerbMachine.TestCase
TestVerbMachine.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
