"""What a command shows while it makes a video: its events as a progress bar on stderr, the result on stdout."""

import sys

from tqdm import tqdm

from studio.commands.streams import forgiving
from studio.events import Event, Finished, Notice, PhaseStarted, Progress
from studio.messages import phase_title

LOG_SECONDS = 10  # between two states of the bar where nobody watches it move


def print_result(finished: Finished) -> None:
    """The result's path, its seed and the seconds of each phase."""
    seconds = ", ".join(f"{phase} {value:.1f} s" for phase, value in finished.seconds.items())
    with forgiving():
        print(f"{finished.path}\nseed {finished.seed}; {seconds}", flush=True)


def minutes(seconds: float) -> str:
    """A duration in words: seconds below two minutes, hours from three on."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 3 * 3600 else f"{seconds / 3600:.1f} hours"


class ProgressBar:
    """One bar per phase that has steps. Use as a context: leaving it closes the bar."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        with forgiving():
            self._close()

    def show(self, event: Event) -> None:
        """Say what the event tells; events that tell nothing here pass, and nobody need hear it."""
        with forgiving():
            self._show(event)

    def _show(self, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            self._close()
            print(f"{phase_title(event.phase)} ...", file=sys.stderr)
        elif isinstance(event, Notice):
            tqdm.write(event.text, file=sys.stderr)
        elif isinstance(event, Progress):
            self._bar = self._bar or self._open(event)
            vram = f"VRAM {event.vram_bytes / 2**30:.1f} GB, " if event.vram_bytes else ""
            self._bar.set_postfix_str(f"{vram}RAM {event.ram_bytes / 2**30:.1f} GB", refresh=False)
            self._bar.update(event.step - self._bar.n)

    def _open(self, event: Progress) -> tqdm:
        """The phase's bar; a resumed run's begins where it goes on."""
        done = event.step - 1 if event.phase == "denoise" else 0
        if done:
            print(f"Going on after step {done}.", file=sys.stderr)
        seconds = 0.1 if sys.stderr.isatty() else LOG_SECONDS
        unit = "frame" if event.phase == "decode" else "step"
        return tqdm(total=event.steps, initial=done, file=sys.stderr, unit=unit, mininterval=seconds)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
