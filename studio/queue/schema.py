"""The tables of the queue, version by version, and job.json, the copy of a row in its job's folder.

A change of the tables, or of anything stored in them (a field of the settings or of an event, a state, a kind, a
request), is a new entry at the end of MIGRATIONS, with a test that opens a folder of the version before. An entry may
be empty: the number alone keeps older programs from reading what they do not know. Entries never change afterwards.
"""

import json
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from studio.errors import StudioError

ROW_FILE = "job.json"
FORMAT = "format"  # in job.json: the version of the tables that the row was copied from
NOT_COPIED = {"number", "version"}  # columns whose values belong to one database
NEXT_CHANGE = "(SELECT version + 1 FROM clock)"
# MIGRATIONS[n] leads from version n to n + 1; PRAGMA user_version holds the version. New files take all of them too.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (  # 1: commit f100660
        """CREATE TABLE jobs (
            number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL,
            settings TEXT NOT NULL, created REAL NOT NULL, started REAL, ended REAL, phase TEXT NOT NULL,
            progress TEXT, preview TEXT, notices TEXT NOT NULL, error TEXT, result TEXT, attempts INTEGER NOT NULL,
            cancel INTEGER NOT NULL, version INTEGER NOT NULL
        )""",
        "CREATE INDEX jobs_by_state ON jobs (state, number)",
        "CREATE TABLE clock (version INTEGER NOT NULL)",
        "INSERT INTO clock VALUES (CAST(1e6 * (julianday('now') - 2440587.5) * 86400 AS INTEGER))",
    ),
    (  # 2: kinds, the order of running, what a person says of a job; `request` holds more than the wish to stop
        "ALTER TABLE jobs ADD COLUMN kind TEXT NOT NULL DEFAULT 'video'",
        "ALTER TABLE jobs ADD COLUMN position REAL NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN request TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE jobs ADD COLUMN worker TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE jobs ADD COLUMN project TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE jobs ADD COLUMN favourite INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN tags TEXT NOT NULL DEFAULT '[]'",
        "UPDATE jobs SET position = created",
        "UPDATE jobs SET request = 'cancel' WHERE cancel = 1 AND state = 'running'",
        "ALTER TABLE jobs DROP COLUMN cancel",
        "DROP INDEX jobs_by_state",
        "CREATE INDEX jobs_by_state ON jobs (state, created)",
        "CREATE INDEX jobs_by_position ON jobs (state, position)",
        "CREATE INDEX jobs_by_time ON jobs (created)",
    ),
    (),  # 3: settings know speed and guidance_schedule; those without them ran at full work with constant guidance
    (  # 4: jobs may be paused, more may be asked of them, a picture's name may be another; options of the whole queue
        "CREATE TABLE options (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    ),
    (  # 5: a clip goes on from another one's last frame, or follows it with a cut
        "ALTER TABLE jobs ADD COLUMN source TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE jobs ADD COLUMN cut INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX jobs_by_source ON jobs (source) WHERE source <> ''",
        "CREATE INDEX jobs_by_project ON jobs (project) WHERE project <> ''",
    ),
    (),  # 6: the kind 'sound', whose settings hold a soundtrack beside those of its clip; older programs know no such
    (),  # 7: settings know prompt_template, magic_words, camera_speed; those without them are as by default
    ("ALTER TABLE jobs ADD COLUMN maker TEXT NOT NULL DEFAULT ''",),  # 8: which guest of the page asked for it
    (),  # 9: settings know crop_left and crop_top; those without them have the middle of the picture
    (),  # 10: a request to stop may have a wish to decode beside it: hold+decode (asked.py)
    (),  # 11: beside the settings of a video may stand what it makes `again`; older programs know no such
)
VERSION = len(MIGRATIONS)
CHECKSUMS = {1007170124: 1}  # user_version of f100660, a checksum then: the version

Row = Mapping[str, Any] | sqlite3.Row

_log = logging.getLogger(__name__)


def columns(db: sqlite3.Connection) -> set[str]:
    """The columns of the table of jobs that make a job, in the version at which `db` is now."""
    return {row["name"] for row in db.execute("PRAGMA table_info(jobs)")} - NOT_COPIED


def insert(db: sqlite3.Connection, row: Mapping[str, Any]) -> list[sqlite3.Row]:
    """Add the row; where a lost database has just been made again, the job's folder has already brought it."""
    sql = f"INSERT OR REPLACE INTO jobs ({', '.join(row)}, version) VALUES ({'?, ' * len(row)}{NEXT_CHANGE})"
    return db.execute(f"{sql} RETURNING *", tuple(row.values())).fetchall()


def copied(row: Row) -> bytes:
    """The content of job.json for a row of this version."""
    values = {name: row[name] for name in row.keys() if name not in NOT_COPIED}  # iterating a Row gives its values
    return json.dumps({FORMAT: VERSION, **values}, ensure_ascii=False).encode()


def read_copies(jobs_folder: Path) -> dict[int, list[dict[str, Any]]]:
    """The rows in all job.json files by their version, each oldest first; what is no row is logged and left out.

    Raises StudioError where a newer program wrote one: this program would lose what it says.
    """
    found = defaultdict(list)
    for path in jobs_folder.glob(f"*/{ROW_FILE}"):
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            version = row.pop(FORMAT, 1)  # f100660 wrote none
            plain = all(value is None or isinstance(value, str | int | float) for value in row.values())
            if not (plain and isinstance(version, int) and row["id"] == path.parent.name and row["created"] >= 0):
                raise ValueError("it is no row of this folder's job")
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            _log.warning("%s is no job of this queue: %s", path, error)
            continue
        if version > VERSION:
            raise StudioError("queue_newer", folder=str(jobs_folder.parent), found=version, known=VERSION)
        found[version].append(row)
    for rows in found.values():
        rows.sort(key=lambda row: row["created"])
    return found


def was_never_run(path: Path) -> bool:
    """Whether a job.json is that of a job nobody took yet, or is not there; False for one that cannot be read."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        return bool(row["state"] == "queued" and row["attempts"] == 0)
    except FileNotFoundError:
        return True
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def restore(db: sqlite3.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows of the version at which `db` is now."""
    names = columns(db)
    for row in rows:
        if row.keys() == names:
            insert(db, row)
        else:
            _log.warning("job %s has other fields than a job of its version: left out", row["id"])
    db.execute("UPDATE clock SET version = version + 1")
