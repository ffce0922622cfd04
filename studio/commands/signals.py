"""Ctrl-C and its relatives, as a flag that the running command looks at."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

STOPPING = "Stopping after the block in work; Ctrl-C again ends at once."
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, `kill`, the terminal was closed


@contextmanager
def stopping(words: str) -> Iterator[threading.Event]:
    """The event is set by the first signal, which also tells `words`; a second one ends the program at once.

    Poll `is_set()`: waiting for the event in the main thread could deadlock with the handler. What the shell had
    ignored (nohup) stays ignored.
    """
    stop = threading.Event()

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        with suppress(OSError):  # nobody may be there to read it
            os.write(2, f"\n{words}\n".encode())  # stderr; print is not reentrant

    previous = {number: signal.getsignal(number) for number in NUMBERS}
    heard = [number for number, handler in previous.items() if handler != signal.SIG_IGN]
    for number in heard:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number in heard:
            signal.signal(number, previous[number])


def end_with_stdin() -> None:
    """Ask this process to end, as Ctrl-C does, once its stdin ends: a pipe that its parent holds while it lives."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                continue
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
