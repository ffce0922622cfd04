"""Time as a parameter, so that what waits can be tested without waiting."""

import threading
import time


class Clock:
    """This machine's time. Whoever waits is given one; tests give one whose time passes when it is slept on."""

    def now(self) -> float:
        """Unix seconds; may be set back."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment; never set back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Return after that time."""
        time.sleep(seconds)

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Return after that time, or as soon as the event is set."""
        event.wait(seconds)


CLOCK = Clock()
