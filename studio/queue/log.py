"""The log: one rotating file per role of process, every line with the job it is about."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from logging.handlers import RotatingFileHandler
from pathlib import Path

from studio.errors import StudioError

MAX_BYTES = 2 * 2**20
BACKUPS = 4
FORMAT = "%(asctime)s %(levelname)s [%(job)s] %(name)s: %(message)s"
_job: ContextVar[str] = ContextVar("job", default="-")


def start_log(folder: Path, role: str) -> Path:
    """Send everything from INFO on to `folder`/`role`.log and return that path. Role: "page", "worker", "generate".

    Each role has its own file, so that a rotation has one writer. Raises StudioError when it cannot be written.
    """
    path = folder / f"{role}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=BACKUPS, encoding="utf-8")
    except OSError as error:
        raise StudioError("write_failed", file=str(path), reason=error.strerror or str(error)) from None
    handler.setFormatter(logging.Formatter(FORMAT))
    handler.addFilter(_name_job)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(min(root.level, logging.INFO) if root.level else logging.INFO)
    return path


@contextmanager
def job_in_log(id: str) -> Iterator[None]:
    """Lines logged inside are about this job."""
    token = _job.set(id)
    try:
        yield
    finally:
        _job.reset(token)


def _name_job(record: logging.LogRecord) -> bool:
    record.job = _job.get()
    return True
