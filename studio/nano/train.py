"""The training loop every stage shares: exact to resume, saved on a clock and on SIGTERM, losses written as it runs.

A stage hands in a function from the step's number to a loss. Everything random in it must come from that number (see
`step_generator`), so that a run that was stopped and resumed draws what it would have drawn. Between steps the loop
waits while `pause_file` exists, so that others can measure on a quiet machine.
"""

import json
import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

PAUSE_SECONDS = 1.0  # between looks for the pause file
StepLoss = Callable[[int], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class LoopSettings:
    """How long and how fast. The learning rate warms up, holds, and falls as a cosine to a twentieth at `steps`."""

    steps: int
    learning_rate: float = 5e-4
    warmup: int = 100
    hold: float = 0.3  # share of the steps at the full rate, warm-up included
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    muon: tuple[str, ...] = ()  # matrices whose names hold one of these learn by Muon, everything else by AdamW
    average: float = 0.0  # decay of the moving average of the weights; 0: none
    slow: tuple[tuple[str, float], ...] = ()  # (start of a weight's name, factor of its rate); first match counts
    save_minutes: float = 10.0
    keep_every: int = 0  # steps between copies that later saves leave alone; 0: none
    log_every: int = 20
    pause_file: Path | None = None  # training waits while it exists

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        begin = self.hold * self.steps
        share = max(0.0, min(1.0, (step - begin) / max(self.steps - begin, 1)))
        return self.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))


def step_generator(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The randomness of one step: the same for the same seed and step, whatever ran before."""
    return torch.Generator(device).manual_seed((seed * 1_000_003 + step) * 2_654_435_761 % 2**63)


class Loop:
    """One stage's training: network, optimiser, moving average and step number, and the file they are kept in."""

    def __init__(self, module: nn.Module, settings: LoopSettings, file: Path) -> None:
        self.module, self.settings, self.file = module.eval(), settings, file  # no dropout: it would draw unseeded
        self.step = 0
        self.optimizers = _optimizers(module, settings)
        self.average = {k: v.detach().clone() for k, v in module.state_dict().items()} if settings.average else {}
        self._told: list[dict[str, float]] = []  # of the steps since the last line of the log
        self._stop = False

    def resume(self) -> bool:
        """Continue from the stage's file; False where there is none yet."""
        if not self.file.is_file():
            return False
        state = torch.load(self.file, weights_only=True, map_location="cpu")
        self.module.load_state_dict(state["module"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            factors = [group["factor"] for group in optimizer.param_groups]
            optimizer.load_state_dict(kept)
            for group, factor in zip(optimizer.param_groups, factors, strict=True):
                group["factor"] = factor  # today's settings, not the file's
        self.average = {k: v.to(self.average[k].device) for k, v in state["average"].items()}
        self.step = state["step"]
        return True

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Start from given weights: the network and its average take them."""
        self.module.load_state_dict(weights)
        for name, value in self.average.items():
            value.copy_(weights[name])

    def keep(self) -> None:
        """Write the weights that are for use beside the stage's file, under their step."""
        weights = self.average or self.module.state_dict()
        torch.save(weights, self.file.with_name(f"{self.file.stem}-{self.step:06d}.pt"))

    def save(self) -> None:
        """Write everything to the stage's file, whole or not at all."""
        state = {
            "module": self.module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "average": self.average,
            "step": self.step,
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".tmp")
        torch.save(state, part)
        os.replace(part, self.file)

    def run(self, loss_of: StepLoss) -> None:
        """Train to the last step or to SIGTERM, whichever comes first, and save."""
        before = signal.signal(signal.SIGTERM, self._ask_to_stop)
        saved = time.monotonic()
        try:
            while self.step < self.settings.steps and not self._stop:
                self._wait()
                self._one(loss_of)
                if self.settings.keep_every and self.step % self.settings.keep_every == 0:
                    self.keep()
                if time.monotonic() - saved > 60 * self.settings.save_minutes:
                    self.save()
                    saved = time.monotonic()
        finally:
            signal.signal(signal.SIGTERM, before)
        self.save()

    def _wait(self) -> None:
        """Stand still, all saved, while the pause file is there."""
        pause = self.settings.pause_file
        if pause and pause.exists():
            self.save()
            self._log({"paused": wait_while(pause, lambda: self._stop)})

    def _one(self, loss_of: StepLoss) -> None:
        settings, began = self.settings, time.monotonic()
        loss, parts = loss_of(self.step)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(self.step) * group["factor"]
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), settings.clip_norm, error_if_nonfinite=True)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self._follow()
        self._told.append({"loss": loss.item(), **parts, "norm": norm.item(), "seconds": time.monotonic() - began})
        if self.step % settings.log_every == 0 or self.step == settings.steps:
            self._log(_means(self._told))
            self._told.clear()

    def _follow(self) -> None:
        if not self.average:
            return
        decay = min(self.settings.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.module.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)

    def _log(self, values: dict[str, float]) -> None:
        row = {"step": self.step, "rate": self.settings.rate(self.step), **values}
        with open(self.file.with_suffix(".jsonl"), "a", encoding="utf-8") as log:
            log.write(json.dumps({k: round(v, 6) for k, v in row.items()}) + "\n")

    def _ask_to_stop(self, *_: object) -> None:
        self._stop = True


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Each value's mean over the rows that have it as a number."""
    values = {name: [row[name] for row in rows if not math.isnan(row[name])] for name in rows[0]}
    return {name: sum(found) / len(found) for name, found in values.items() if found}


def _optimizers(module: nn.Module, settings: LoopSettings) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon before it where asked: per sample seen it learns faster, which is what a CPU is short of."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and any(part in name for part in settings.muon)]
    taken = {id(p) for p in matrices}
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, weight in named:
        if id(weight) not in taken:
            factor = next((factor for start, factor in settings.slow if name.startswith(start)), 1.0)
            decay = settings.weight_decay if weight.ndim > 1 else 0.0
            groups.setdefault((decay, factor), []).append(weight)
    adam_groups = [{"params": ps, "weight_decay": decay, "factor": f} for (decay, f), ps in groups.items()]
    adam = torch.optim.AdamW(adam_groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)
    if not matrices:
        return [adam]
    muon = torch.optim.Muon(
        [{"params": matrices, "factor": 1.0}],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return [muon, adam]


def wait_while(file: Path | None, stopped: Callable[[], bool] = lambda: False) -> float:
    """Wait while `file` exists and nobody asks to stop; the seconds it took."""
    began = time.monotonic()
    while file and file.exists() and not stopped():
        time.sleep(PAUSE_SECONDS)
    return time.monotonic() - began


def gradient_loss(got: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels' differences, weighted: edges weigh as much as areas."""
    apart = got - wanted
    across = (apart[..., 1:] - apart[..., :-1]).abs() * weights[..., 1:]
    along = (apart[..., 1:, :] - apart[..., :-1, :]).abs() * weights[..., 1:, :]
    return (across.mean() + along.mean()) / weights.mean()
