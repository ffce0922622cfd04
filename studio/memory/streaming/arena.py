"""One copy in RAM of a network's units for all processes of this machine that share a video.

The memory is a file without a name (memfd): it is gone with the last process that has it open, however that ends. Each
process maps a unit that it uses and may register what it maps; whoever needs the content first reads it; the last one
that releases a unit gives its memory back to the system. Locks on bytes behind the file's end say who reads and who
uses: the kernel releases those of a process that dies, also in the middle of reading, when the unit's mark is not set.
They belong to an opened file (F_OFD_SETLK), not to a process, whose threads would release each other's.

No torch: sources.py makes tensors of the memory.
"""

import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

from studio.host_memory import free_ram

PAGE = mmap.PAGESIZE
TAG_BYTES = 8
LOCKS = 1 << 60  # byte of the file from which on locks lie
FLOCK = "hhqqi0q"  # struct flock of 64-bit Linux: type, whence, start, length, process


def stride(nbytes: int) -> int:
    """Bytes of RAM that a unit of nbytes takes: whole pages."""
    return -(-nbytes // PAGE) * PAGE


@dataclass(frozen=True)
class Place:
    """Where this user's processes find an arena's memory until it is closed there, and which file it then must be."""

    path: str
    device: int
    inode: int

    def open(self) -> int:
        """The open file. Raises OSError where it is closed: another file may have its path now."""
        file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        found = os.fstat(file)
        if (found.st_dev, found.st_ino) != (self.device, self.inode):
            os.close(file)
            raise OSError(errno.ESTALE, "the memory that processes share is closed", self.path)
        return file


class ArenaFile:
    """An arena's memory; each process opens it by its place. It takes no RAM before units are mapped."""

    def __init__(self, name: str) -> None:
        """name: as it is to be seen in /proc/PID/maps. Raises OSError."""
        self._file = os.memfd_create(name)
        found = os.fstat(self._file)
        self.place = Place(f"/proc/{os.getpid()}/fd/{self._file}", found.st_dev, found.st_ino)

    @property
    def nbytes(self) -> int:
        """Bytes of RAM that it takes now."""
        return os.fstat(self._file).st_blocks * 512

    def close(self) -> None:
        """Close it. Whoever has opened it keeps it."""
        os.close(self._file)


class Arena:
    """Room for `units` units of nbytes each, as one process sees it. Two threads may use different units at a time."""

    def __init__(self, place: Place, units: int, nbytes: int, free: Callable[[], int] = free_ram) -> None:
        """free: bytes of RAM. Raises OSError, ValueError for an arena of another size."""
        self._free = free
        self._units, self._nbytes, self._stride = units, nbytes, stride(nbytes)
        self._tags = stride(units * TAG_BYTES)  # bytes before the first unit: of each, what it was read from
        self._held: set[int] = set()
        self._file = place.open()
        whole = self._tags + units * self._stride
        try:
            if os.fstat(self._file).st_size == 0:
                os.ftruncate(self._file, whole)
            if (size := os.fstat(self._file).st_size) != whole:
                raise ValueError(f"the arena has {size:,} bytes; {units} units of {nbytes:,} bytes take {whole:,}")
            self._header = mmap.mmap(self._file, self._tags)
        except BaseException:
            os.close(self._file)
            raise

    @property
    def held(self) -> tuple[int, ...]:
        """The units that this process uses."""
        return tuple(sorted(self._held))

    def map(self, unit: int) -> mmap.mmap:
        """The unit's memory, whole pages, used by this process from here on; `fill` says what it holds.

        Raises MemoryError where the system has none.
        """
        self._lock(unit, fcntl.F_RDLCK)
        offset, there = self._tags + unit * self._stride, any(self._header[self._tag_of(unit)])
        try:
            if not there and self._stride > self._free():  # the kernel refuses none: it would end other processes
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            memory = mmap.mmap(self._file, self._stride, offset=offset)
        except OSError as error:
            self._lock(unit, fcntl.F_UNLCK)
            raise MemoryError(f"{self._stride:,} bytes of RAM were refused: {error.strerror}") from None
        self._held.add(unit)
        return memory

    def fill(self, unit: int, tag: bytes, read: Callable[[], None]) -> None:
        """Have `read()` write the unit's memory where it does not hold what `tag`, TAG_BYTES bytes, stands for.

        Waits while another process reads it. Raises what `read` raises; the unit then holds nothing.
        """
        place = self._tag_of(unit)
        self._lock(self._units + unit, fcntl.F_WRLCK)
        try:
            if self._header[place] != tag:
                self._header[place] = bytes(TAG_BYTES)
                read()
                self._header[place] = tag
        finally:
            self._lock(self._units + unit, fcntl.F_UNLCK)

    def release(self, unit: int) -> bool:
        """End this process's use; True where it was the last one, and the memory is the system's again.

        Nothing may be registered or read there any more.
        """
        self._held.remove(unit)
        self._lock(2 * self._units, fcntl.F_WRLCK)  # one at a time: of two, each would find the other one there
        try:
            if last := self._lock(unit, fcntl.F_WRLCK, wait=False):
                self._header[self._tag_of(unit)] = bytes(TAG_BYTES)
                with mmap.mmap(self._file, self._stride, offset=self._tags + unit * self._stride) as memory:
                    memory.madvise(mmap.MADV_REMOVE)
        finally:
            self._lock(unit, fcntl.F_UNLCK)
            self._lock(2 * self._units, fcntl.F_UNLCK)
        return last

    def close(self) -> None:
        """Release all units, and the file."""
        for unit in self.held:
            self.release(unit)
        self._header.close()
        os.close(self._file)

    def _tag_of(self, unit: int) -> slice:
        return slice(unit * TAG_BYTES, (unit + 1) * TAG_BYTES)

    def _lock(self, which: int, kind: int, *, wait: bool = True) -> bool:
        """Lock or unlock one byte; False where another process has it and it is not to be waited for."""
        wanted = struct.pack(FLOCK, kind, os.SEEK_SET, LOCKS + which, 1, 0)
        try:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, wanted)
        except OSError:
            if wait:
                raise
            return False
        return True
