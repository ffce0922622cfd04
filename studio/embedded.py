"""What a video, picture or json file of this program carries: a text of settings and where they came from, and behind a
video the first image as it was given.

Files of strangers are dropped on the page and named on the command line. Only the containers' own tables are walked: no
other program is started, nothing is copied, no pixel is decoded, and no more is read than the text may be long.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from models.regular_files import open_regular, read_up_to

MP4_PLACE = (b"moov", b"udta", b"meta", b"ilst", b"\xa9cmt", b"data")  # of the comment, as ffmpeg writes it
SKIPPED = {b"meta": 4, b"data": 8}  # bytes of version, flags and language before a box's content
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_KEYWORD = b"comment\0"
# The type of the box that holds the first image, at the end of an mp4: players and muxers pass over boxes that they do
# not know (ISO/IEC 14496-12, 4.2), so that a copy by another program leaves it out. Drawn once by uuid4.
PICTURE_ID = bytes.fromhex("5d0b8f3c6a274e0e9a41c7a2f6d1e853")
MOST_PARTS = 10_000  # boxes or chunks in one place; a long video has hundreds


def embedded_text(file: BinaryIO, limit: int) -> bytes:
    """The text, "" where the file carries none; of one that is longer than `limit` bytes the first limit + 1.

    file: open at its beginning, and seekable. Raises OSError.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = read_up_to(file, len(PNG_START))
    if start[4:8] == b"ftyp":
        place = _mp4_comment(file, size)
    elif start == PNG_START:
        place = _png_comment(file, size)
    else:
        place = 0, size
    file.seek(place[0])
    return read_up_to(file, min(place[1] - place[0], limit + 1))


def _mp4_comment(file: BinaryIO, size: int) -> tuple[int, int]:
    """Where the comment tag of an mp4 begins and ends; (0, 0) where there is none. Boxes: ISO/IEC 14496-12."""
    begin, end = 0, size
    for kind in MP4_PLACE:
        found = _box(file, kind, begin, end)
        if found is None:
            return 0, 0
        begin, end = found[0] + SKIPPED.get(kind, 0), found[1]
    return (begin, end) if begin <= end else (0, 0)


def _box(file: BinaryIO, wanted: bytes, begin: int, end: int) -> tuple[int, int] | None:
    """Where the content of the first box of a kind begins and ends."""
    return next(((content, last) for kind, _, content, last in _boxes(file, begin, end) if kind == wanted), None)


def _boxes(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """(kind, where it begins, where its content begins, where it ends) of each box, until one is none."""
    for _ in range(MOST_PARTS):
        file.seek(begin)
        head = read_up_to(file, 16)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head[:8])
        header = 8
        if size == 1 and len(head) == 16:
            size, header = struct.unpack(">Q", head[8:])[0], 16
        elif size == 0:
            size = end - begin
        if size < header or begin + size > end:
            return
        yield kind, begin, begin + header, begin + size
        begin += size


def picture_box(picture: bytes) -> bytes:
    """A first image as it is put behind an mp4. Raises ValueError for one that no box of this kind can hold."""
    size = 8 + len(PICTURE_ID) + len(picture)
    if size >= 2**32:
        raise ValueError("the picture is too large for a box")
    return struct.pack(">I4s", size, b"uuid") + PICTURE_ID + picture


def embedded_picture(file: BinaryIO, limit: int) -> bytes | None:
    """The first image that an mp4 carries; None where there is none, or one of more than `limit` bytes. Raises OSError.

    The bytes are whatever somebody put there: they are to be read as any picture of a stranger.
    """
    place = _picture_place(file)
    if place is None or place[2] - place[1] > limit:
        return None
    file.seek(place[1])
    return read_up_to(file, place[2] - place[1])


def carried_picture(path: Path, limit: int) -> bytes | None:
    """As `embedded_picture`, of a file that may be missing or none."""
    try:
        with open_regular(path) as file:
            return embedded_picture(file, limit)
    except OSError:
        return None


def length_without_picture(file: BinaryIO) -> int:
    """How many bytes from its beginning an mp4 has without the first image; all of them where it carries none.

    Raises OSError.
    """
    place = _picture_place(file)
    return place[0] if place is not None else file.seek(0, os.SEEK_END)


def _picture_place(file: BinaryIO) -> tuple[int, int, int] | None:
    """(where the box begins, where the picture begins, where both end); None unless it is the file's last box."""
    size = file.seek(0, os.SEEK_END)
    file.seek(4)
    if read_up_to(file, 4) != b"ftyp":
        return None
    for kind, begin, content, end in _boxes(file, 0, size):
        if kind == b"uuid" and end == size:
            file.seek(content)
            if read_up_to(file, len(PICTURE_ID)) == PICTURE_ID:
                return begin, content + len(PICTURE_ID), end
    return None


def _png_comment(file: BinaryIO, size: int) -> tuple[int, int]:
    """Where the text of a png's comment begins and ends; (0, 0) where there is none. Chunks: PNG, section 11.3.3.4."""
    begin = len(PNG_START)
    for _ in range(MOST_PARTS):
        file.seek(begin)
        head = read_up_to(file, 8 + 64)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head[:8])
        if begin + 12 + length > size:
            break
        if kind == b"iTXt" and head[8:].startswith(PNG_KEYWORD):
            # Then: not compressed, no method, no language, no translated keyword. Another program's would have them.
            plain = head[8 + len(PNG_KEYWORD) :].startswith(b"\0\0\0\0")
            return (begin + 8 + len(PNG_KEYWORD) + 4, begin + 8 + length) if plain else (0, 0)
        begin += 12 + length
    return 0, 0
