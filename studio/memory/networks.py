"""Networks on the device: one that lies there as a whole, and one whose units take turns.

Both keep their tensors in flat buffers of the account, filled straight from the public weight files.
"""

import copy
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import nn

from models.checkpoint import ComponentFiles, TensorEntry
from models.quantized import UNITS, Scratch, int8_block, scratch_elements
from studio.errors import StudioError
from studio.memory.allocator import Account, IntegrityError, Kind, Lease
from studio.memory.plan import ComponentPlan
from studio.memory.streaming.backends import Backend
from studio.memory.streaming.layout import Layout, Slot
from studio.memory.streaming.sources import FileSource, PinnedSource, Source, UnitReader
from studio.memory.streaming.streamer import Streamer


class WholeNetwork:
    """A network that lies on the device with all its tensors; `module` computes."""

    def __init__(self, module: nn.Module, files: ComponentFiles, account: Account, prefix: str = "") -> None:
        """module: on the meta device, in its compute dtype. prefix: of its keys in the files' tables.

        Raises StudioError, MemoryError or torch.OutOfMemoryError; nothing stays taken then.
        """
        layout = Layout.of(module.state_dict())
        lease = account.take(Kind.RESIDENT, layout.nbytes)
        reader = UnitReader(layout, [[files.entries[prefix + field.name] for field in layout.fields]], account)
        try:
            reader.read(0, lease.memory)
        except BaseException:
            lease.release()
            raise
        finally:
            reader.close()
        self._slot = Slot(lease, layout, module, free=None)
        self.module = module
        self.nbytes = layout.nbytes

    def close(self) -> None:
        """Give the memory back."""
        self._slot.release()


class StreamedNetwork:
    """A network in two parts: `body`, the tensors outside of units, and units that a streamer brings on.

    Its files may hold int8 units (models.quantized); these dequantise into one scratch that all of them share, or
    compute in int8 and need none.
    """

    def __init__(
        self,
        module: nn.Module,
        files: ComponentFiles,
        dtype: torch.dtype,
        account: Account,
        backend: Backend,
        *,
        int8_compute: bool = False,
    ) -> None:
        """module: on the meta device, as `models.checkpoint.build` returns it. Opens files, takes no memory yet.

        int8_compute: whether int8 units multiply in int8.
        """
        self.name, self.dtype = files.component, dtype
        self._files, self._account = files, account
        module.to(dtype)
        units = module.get_submodule(UNITS[self.name])
        self.params, self.units, self._unit = module.params, len(units), units[0]
        if files.is_int8:
            int8_block(self._unit, compute="int8" if int8_compute else "weight")
        self.layout = Layout.of(self._unit.state_dict())
        module.set_submodule(UNITS[self.name], nn.ModuleList())
        self._outside = module
        self.rest_bytes = Layout.of(module.state_dict()).nbytes
        self.scratch_bytes = 0 if int8_compute else sum(scratch_elements(self._unit)) * dtype.itemsize
        self._rest: WholeNetwork | None = None
        self._scratch: list[Lease] = []
        self._dequantised: Scratch | None = None
        self._reader = UnitReader(self.layout, [self._entries(unit) for unit in range(self.units)], account)
        self._pinned = PinnedSource(self._reader, account)
        sources: dict[str, Source] = {
            "pinned": self._pinned,
            "cached": FileSource(self._reader, direct=False),
            "direct": FileSource(self._reader, direct=True),
        }
        self._streamer = Streamer(self.layout, self._build_unit, sources, backend, account)
        self.plan: ComponentPlan | None = None

    @property
    def body(self) -> nn.Module:
        """The network without its units, on the device."""
        if self._rest is None:
            raise RuntimeError(f"The {self.name} is not on the device: use() a plan first.")
        return self._rest.module

    def use(self, plan: ComponentPlan) -> None:
        """Bring on what the plan keeps on the device. Raises as WholeNetwork; another plan may be tried then."""
        if plan == self.plan:
            return
        self.plan = None
        if self._rest is None:
            self._rest = WholeNetwork(copy.deepcopy(self._outside), self._files, self._account)
        if self.scratch_bytes and self._dequantised is None:
            self._take_scratch()
        self._streamer.use(plan)
        self.plan = plan

    def blocks(self, *, last: bool = False) -> Iterator[tuple[int, nn.Module]]:
        """As Streamer.blocks."""
        for index, block in self._streamer.blocks(last=last):
            with self._dequantised.unit() if self._dequantised else nullcontext():
                yield index, block

    def settle(self) -> None:
        """Call off what is on its way to the device; what is there stays."""
        self._streamer.settle()

    def is_current(self) -> bool:
        """Whether the weight files are still those that were opened."""
        try:
            self._reader.check()
        except StudioError:
            return False
        return True

    def let_go(self) -> None:
        """Take everything off the device; units pinned in RAM stay there for the next run."""
        self.plan = None
        self._streamer.let_go()
        if self._rest is not None:
            self._rest.close()
            self._rest = None
        self._dequantised = None
        while self._scratch:
            self._scratch.pop().release()

    def close(self) -> None:
        """Give back everything, files included; the network is of no use afterwards."""
        self.let_go()
        self._streamer.close()
        self._reader.close()

    def held(self) -> dict[Kind, int]:
        """What the structure of this network holds, for comparison with the account.

        Raises IntegrityError where it is not what the plan in force says.
        """
        streamer, plan = self._streamer, self.plan
        if plan is not None:
            planned = len(plan.resident), plan.slots, plan.unit_bytes, plan.rest_bytes, plan.scratch_bytes
            found = (
                self.units - len(plan.streamed), streamer.slots, self.layout.nbytes, self.rest_bytes, self.scratch_bytes
            )  # fmt: skip
            if planned != found or streamer.resident_units != plan.resident:
                raise IntegrityError(f"The {self.name} has (residents, slots, bytes) {found}, its plan says {planned}")
        unit = self.layout.nbytes
        return {
            Kind.RESIDENT: len(streamer.resident_units) * unit + (self.rest_bytes if self._rest else 0),
            Kind.SLOTS: streamer.slots * unit,
            Kind.SCRATCH: self.scratch_bytes if self._dequantised else 0,
            Kind.ARENAS: len(self._pinned.units) * unit,
            Kind.STAGING: streamer.staging_buffers * unit + self._reader.bounce_bytes,
        }

    def _entries(self, unit: int) -> list[TensorEntry]:
        return [self._files.entries[f"{UNITS[self.name]}.{unit}.{field.name}"] for field in self.layout.fields]

    def _build_unit(self) -> nn.Module:
        unit = copy.deepcopy(self._unit)
        return int8_block(unit, self._dequantised) if self._dequantised else unit

    def _take_scratch(self) -> None:
        while self._scratch:  # what an attempt that ran out of memory left
            self._scratch.pop().release()
        for elements in scratch_elements(self._unit):
            self._scratch.append(self._account.take(Kind.SCRATCH, elements * self.dtype.itemsize))
        first, second = (lease.memory.view(self.dtype) for lease in self._scratch)
        self._dequantised = Scratch((first, second))
