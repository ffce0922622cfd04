"""Which passes of the transformer a video takes, and how their velocities become a step. A pure function, no torch.

The flow ODE dx/dt = v(x, t) runs from noise (t = 0) to data (t = 1). A node is a time at which the velocity is
computed, by one pass (conditional) or two (with guidance). `exact` is the official sampler: Euler steps on the official
grid. `fast` and `draft` step by Adams-Bashforth of second order on nodes that are refined towards the end:

    q = 1 + ln(2 k) / ln(n);  s_j = (1 - j / n)^q;  t_j = 1 - k s_j / (1 + (k - 1) s_j)

k is the time shift: the larger, the more nodes near the noise. The last step is about 1 / (2 n) for every k. A step of
length h after one of length p adds h v_i + theta h^2 / (2 p) (v_i - v_{i-1}); theta below 1 gives up a little order for
stability (on the negative real axis |h lambda| < 2 / (1 + theta)). What was measured: docs/performance.md.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from studio.settings import GuidanceSchedule, ResolvedSettings, Speed

FAST_SHARE = 0.58  # nodes of `fast` per official step: 29 for 50
DRAFT_SHARE = 0.24  # of `draft`: 12 for 50
THETA = 0.8
DRAFT_GUIDANCE = 4.0  # the most guidance of a draft without a calibration: so few nodes are unstable beyond it
FEWEST_NODES = 4


@dataclass(frozen=True)
class Node:
    """A time in 0..1 and the guidance there; guidance 1 is the conditional pass alone."""

    time: float
    guidance: float

    @property
    def passes(self) -> int:
        """Passes of the transformer at this node."""
        return 1 if self.guidance == 1 else 2


@dataclass(frozen=True)
class EvaluationPlan:
    """The nodes of one video in order. theta: weight of the second-order term; 0 makes every step an Euler step."""

    speed: Speed
    nodes: tuple[Node, ...]
    theta: float = 0.0
    calibrated: bool = False

    @property
    def times(self) -> tuple[float, ...]:
        """The nodes' times and the end, 1."""
        return (*(node.time for node in self.nodes), 1.0)

    @property
    def forwards(self) -> dict[str, int]:
        """Passes by kind."""
        guided = sum(node.passes == 2 for node in self.nodes)
        return {"conditional": len(self.nodes), "unconditional": guided}

    @property
    def is_guided(self) -> bool:
        """Whether any node has an unconditional pass."""
        return any(node.passes == 2 for node in self.nodes)

    def weights(self, step: int, *, first_order: bool = False) -> tuple[float, float]:
        """(a, b) of x += a v_i + b v_{i-1}. first_order: an Euler step, as the first one always is.

        Differences of times are taken in float32, as the official sampler takes them: Euler steps have its bits.
        """
        times = np.asarray(self.times, dtype=np.float32)
        h = float(times[step + 1] - times[step])
        if step == 0 or self.theta == 0 or first_order:
            return h, 0.0
        before = float(times[step] - times[step - 1])
        bend = self.theta * h * h / (2 * before)
        return h + bend, -bend

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for the file that the plan made."""
        return asdict(self) | {"speed": str(self.speed), "nodes": [[node.time, node.guidance] for node in self.nodes]}

    @classmethod
    def from_dict(cls, data: Any) -> "EvaluationPlan":
        """From `to_dict`. Raises ValueError for anything that is no plan."""
        try:
            nodes = tuple(Node(float(time), float(guidance)) for time, guidance in data["nodes"])
            plan = cls(Speed(data["speed"]), nodes, float(data["theta"]), bool(data["calibrated"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"it is no evaluation plan ({type(error).__name__}: {error})") from None
        rising = all(a < b for a, b in zip(plan.times, plan.times[1:], strict=False))
        sound = rising and all(node.guidance >= 1 for node in nodes) and 0 <= plan.theta <= 1
        if not (nodes and abs(nodes[0].time) < 1e-6 and sound and all(map(math.isfinite, plan.times))):
            raise ValueError("its times must rise from 0 to below 1, with guidance from 1 and theta from 0 to 1")
        return plan


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` chose on a checkpoint: so many nodes stand for `infer_steps` official ones.

    It holds up to the guidance it was measured with. errors: of this plan and of the official one, for people.
    """

    nodes: int
    time_shift: float
    theta: float
    infer_steps: int
    cfg_scale: float
    errors: Mapping[str, float]

    def serves(self, cfg_scale: float) -> bool:
        """Whether it was measured with as much guidance."""
        return cfg_scale <= self.cfg_scale


def make_plan(
    infer_steps: int,
    time_shift: float,
    cfg_scale: float,
    speed: Speed = Speed.EXACT,
    *,
    schedule: GuidanceSchedule = GuidanceSchedule.CONSTANT,
    calibration: Calibration | None = None,
) -> EvaluationPlan:
    """The plan of a request. infer_steps counts official steps, whatever the speed; time_shift > 0; cfg_scale >= 1.

    Deterministic: the same arguments give the same plan on every machine. ValueError for numbers out of range.
    """
    if infer_steps < 1 or not time_shift > 0 or not cfg_scale >= 1:
        raise ValueError(f"No plan for {infer_steps} steps, time shift {time_shift} and guidance {cfg_scale}.")
    if speed is Speed.EXACT:
        return EvaluationPlan(speed, _guided(official_times(infer_steps, time_shift), cfg_scale, schedule))
    if speed is Speed.FAST and calibration is not None and calibration.serves(cfg_scale):
        count = _share(calibration.nodes / calibration.infer_steps, infer_steps)
        times = refined_times(count, calibration.time_shift)
        return EvaluationPlan(speed, _guided(times, cfg_scale, schedule), calibration.theta, calibrated=True)
    if speed is Speed.FAST:
        times = refined_times(_share(FAST_SHARE, infer_steps), time_shift)
        return EvaluationPlan(speed, _guided(times, cfg_scale, schedule), THETA)
    times = refined_times(_share(DRAFT_SHARE, infer_steps), time_shift)
    return EvaluationPlan(speed, _guided(times, min(cfg_scale, DRAFT_GUIDANCE), schedule), THETA)


def plan_of(settings: ResolvedSettings, calibration: Calibration | None = None) -> EvaluationPlan:
    """The plan of checked settings. calibration: of the model, where it has one."""
    return make_plan(
        settings.infer_steps,
        settings.time_shift,
        settings.cfg_scale,
        Speed(settings.speed),
        schedule=GuidanceSchedule(settings.guidance_schedule),
        calibration=calibration,
    )


def official_times(steps: int, time_shift: float) -> tuple[float, ...]:
    """Times of the official grid, the end left out: models.scheduler.FlowMatchScheduler's, to the bit (float32)."""
    s = np.linspace(1, 0, steps + 1)
    return _float32(1 - time_shift * s / (1 + (time_shift - 1) * s))


def refined_times(count: int, k: float) -> tuple[float, ...]:
    """`count` times refined towards the end, the end left out; see this file's head. Even spacing for k up to 1/2."""
    q = 1 + math.log(max(2 * k, 1)) / math.log(count)
    s = (1 - np.arange(count + 1) / count) ** q
    return _float32(1 - k * s / (1 + (k - 1) * s))


def _float32(times: np.ndarray) -> tuple[float, ...]:
    return tuple(float(time) for time in times.astype(np.float32)[:-1])


def _share(share: float, steps: int) -> int:
    """Nodes for so many official steps; never more than these."""
    return min(max(math.ceil(round(share * steps, 6)), FEWEST_NODES), max(steps, 2))


def _guided(times: tuple[float, ...], cfg_scale: float, schedule: GuidanceSchedule) -> tuple[Node, ...]:
    if schedule is GuidanceSchedule.FALLING:
        return tuple(Node(time, max(cfg_scale - 9 * time * (cfg_scale - 1), 1.0)) for time in times)
    return tuple(Node(time, float(cfg_scale)) for time in times)
