"""What the streamer asks of a device: copies beside the computation, and events that order the two."""

from typing import Any, Protocol

import torch
from torch import Tensor

Event = Any  # of the backend's own type; the streamer only passes it on


class DeviceBackend(Protocol):
    """Three queues of work: computation, copies, staged copies. Only `finish` blocks the calling thread.

    Each queue keeps its order. Staged copies, of units that were read from disk, have a queue of their own: in a common
    one, a copy that is queued early waits for its slot and holds up the copy of a unit that is needed before it.

    fills_slots: slots are plain RAM, so a unit is read straight into its slot and no copy is needed.
    """

    fills_slots: bool

    def mark(self) -> Event:
        """An event after everything computed so far."""

    def copy(self, source: Tensor, target: Tensor, after: Event, *, staged: bool = False) -> Event:
        """Copy host memory to the device once `after` has happened; returns the event after the copy.

        staged: in the queue of the staged copies.
        """

    def wait(self, event: Event) -> None:
        """Computation that is queued from here on starts after the event."""

    def finish(self, event: Event | None = None) -> None:
        """Block until the event has happened; None: until every copy of both queues is done."""


class CpuBackend:
    """Computation runs in the calling thread, so all events have happened already."""

    fills_slots = True

    def mark(self) -> Event:
        return None

    def copy(self, source: Tensor, target: Tensor, after: Event, *, staged: bool = False) -> Event:
        target.copy_(source)

    def wait(self, event: Event) -> None:
        return None

    def finish(self, event: Event | None = None) -> None:
        return None


class CudaBackend:
    """Two copy streams beside the current stream of the device."""

    fills_slots = False

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies, self._staged_copies = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def mark(self) -> Event:
        return torch.cuda.current_stream(self._device).record_event(_blocking_event())

    def copy(self, source: Tensor, target: Tensor, after: Event, *, staged: bool = False) -> Event:
        stream = self._staged_copies if staged else self._copies
        stream.wait_event(after)
        with torch.cuda.stream(stream):
            target.copy_(source, non_blocking=True)
        return stream.record_event(_blocking_event())

    def wait(self, event: Event) -> None:
        torch.cuda.current_stream(self._device).wait_event(event)

    def finish(self, event: Event | None = None) -> None:
        for pending in [event] if event else [self._copies, self._staged_copies]:
            pending.synchronize()


def _blocking_event() -> torch.cuda.Event:
    """A thread that waits for this event sleeps; for an ordinary event it would spin on a CPU core."""
    return torch.cuda.Event(blocking=True)


def device_backend(device: torch.device) -> DeviceBackend:
    """The backend of a device. ValueError for a device type without one."""
    if device.type == "cpu":
        return CpuBackend()
    if device.type == "cuda":
        return CudaBackend(device)
    raise ValueError(f"There is no backend for {device}.")
