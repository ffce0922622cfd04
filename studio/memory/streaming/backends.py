"""What a device does for the streamer: copies beside the computation, and events that order the two."""

from typing import Any, Protocol

import torch
from torch import Tensor

Event = Any  # the backend's own; opaque to the streamer


class Backend(Protocol):
    """Two queues of work, computation and copies. Only `finish` blocks the calling thread.

    fills_slots: a slot is plain RAM, so that a unit can be read straight into it and nothing needs to be copied.
    """

    fills_slots: bool

    def mark(self) -> Event:
        """An event after everything computed so far."""

    def copy(self, source: Tensor, target: Tensor, after: Event) -> Event:
        """Copy host memory to the device once `after` has happened; the event after the copy."""

    def wait(self, event: Event) -> None:
        """What is computed from here on comes after the event."""

    def finish(self, event: Event | None = None) -> None:
        """Return once the event, or every copy so far, has happened."""


class CpuBackend:
    """Computation happens in the calling thread, so whatever was asked for has happened."""

    fills_slots = True

    def mark(self) -> Event:
        return None

    def copy(self, source: Tensor, target: Tensor, after: Event) -> Event:
        target.copy_(source)

    def wait(self, event: Event) -> None:
        return None

    def finish(self, event: Event | None = None) -> None:
        return None


class CudaBackend:
    """A copy stream beside the current stream of the device."""

    fills_slots = False

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = torch.cuda.Stream(device)

    def mark(self) -> Event:
        return torch.cuda.current_stream(self._device).record_event(_sleeping_event())

    def copy(self, source: Tensor, target: Tensor, after: Event) -> Event:
        self._copies.wait_event(after)
        with torch.cuda.stream(self._copies):
            target.copy_(source, non_blocking=True)
        return self._copies.record_event(_sleeping_event())

    def wait(self, event: Event) -> None:
        torch.cuda.current_stream(self._device).wait_event(event)

    def finish(self, event: Event | None = None) -> None:
        (event or self._copies).synchronize()


def _sleeping_event() -> torch.cuda.Event:
    """Who waits for it in `finish` sleeps, where an ordinary event would have it spin on a processor."""
    return torch.cuda.Event(blocking=True)


def backend_for(device: torch.device) -> Backend:
    """The backend of a device. ValueError for a kind that has none."""
    if device.type == "cpu":
        return CpuBackend()
    if device.type == "cuda":
        return CudaBackend(device)
    raise ValueError(f"There is no backend for {device}.")
