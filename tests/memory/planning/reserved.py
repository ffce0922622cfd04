"""What PyTorch's CUDA allocator would take from the driver for a piece of code, counted without a GPU.

The code runs on meta tensors; every tensor it makes is placed as the allocator places it with expandable segments, the
program's setting: sizes in steps of 512 bytes, two pools, the smallest free gap that fits, else the end of the pool,
which grows in pages (c10/cuda/CUDACachingAllocator.cpp; the same from 2.9 to 2.13). What libraries take inside one
operator is not seen.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

STEP, SMALL = 512, 1 << 20
SMALL_PAGE, LARGE_PAGE = 2 << 20, 20 << 20


@dataclass
class Piece:
    """A stretch of a pool's addresses."""

    start: int
    size: int
    free: bool


class Pool:
    """One range of addresses that grows at its end and never shrinks."""

    def __init__(self, page: int) -> None:
        self.reserved, self._page = 0, page
        self._pieces: list[Piece] = []

    def take(self, nbytes: int) -> Piece:
        """The smallest gap that fits; the end of the pool, which can grow, counts as the largest."""
        size = max(-(-nbytes // STEP), 1) * STEP
        if not self._pieces or not self._pieces[-1].free:
            self._pieces.append(Piece(self.reserved, 0, True))
        end = self._pieces[-1]
        gaps = [piece for piece in self._pieces[:-1] if piece.free and piece.size >= size]
        piece = min(gaps, key=lambda gap: gap.size, default=end)
        if piece.size < size:
            self.reserved = -(-(piece.start + size) // self._page) * self._page
            piece.size = self.reserved - piece.start
        if piece.size > size:
            self._pieces.insert(self._pieces.index(piece) + 1, Piece(piece.start + size, piece.size - size, True))
        piece.size, piece.free = size, False
        return piece

    def give_back(self, piece: Piece) -> None:
        """Free a piece; it becomes one with free neighbours."""
        piece.free = True
        at = self._pieces.index(piece)
        if at + 1 < len(self._pieces) and self._pieces[at + 1].free:
            piece.size += self._pieces.pop(at + 1).size
        if at and self._pieces[at - 1].free:
            self._pieces[at - 1].size += self._pieces.pop(at).size


class ReservedBytes(TorchDispatchMode):
    """`with ReservedBytes() as memory: ...`; memory.reserved is what the driver would count of it so far."""

    def __init__(self) -> None:
        super().__init__()
        self._small, self._large = Pool(SMALL_PAGE), Pool(LARGE_PAGE)
        self._held: dict[int, tuple[StorageWeakRef, Pool, Piece]] = {}
        self._foreign: dict[int, StorageWeakRef] = {}

    @property
    def reserved(self) -> int:
        """Bytes of both pools."""
        return self._small.reserved + self._large.reserved

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Gives back what is gone, runs the operator, and finds places for what it made."""
        for key in [key for key, (storage, _, _) in self._held.items() if storage.expired()]:
            _, pool, piece = self._held.pop(key)
            pool.give_back(piece)
        self._foreign = {key: storage for key, storage in self._foreign.items() if not storage.expired()}
        for tensor in tree_leaves((args, kwargs)):
            if torch.is_tensor(tensor) and (storage := tensor.untyped_storage())._cdata not in self._held:
                self._foreign.setdefault(storage._cdata, StorageWeakRef(storage))
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if torch.is_tensor(tensor):
                self._place(tensor.untyped_storage())
        return result

    def _place(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._held or storage._cdata in self._foreign or not storage.nbytes():
            return
        pool = self._small if storage.nbytes() <= SMALL else self._large
        self._held[storage._cdata] = StorageWeakRef(storage), pool, pool.take(storage.nbytes())
