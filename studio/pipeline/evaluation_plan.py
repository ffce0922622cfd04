"""Which passes of the transformer a video takes, and how their velocities become a step. A pure function, no torch.

The flow ODE dx/dt = v(x, t) runs from noise (t = 0) to data (t = 1). A node is a time at which the velocity is
computed, by one pass (conditional) or two (with guidance). `exact` is the official sampler: Euler steps on the official
grid. `fast` and `draft` step by Adams-Bashforth of second order on nodes that are refined towards the end:

    q = 1 + ln(2 k) / ln(n);  s_j = (1 - j / n)^q;  t_j = 1 - k s_j / (1 + (k - 1) s_j)

k is the time shift, but 13 at least: the larger, the more nodes near the noise. Where the equation ends does not depend
on the shift, and nodes for less of it are worse, also beside the official steps of that shift. The last step is about
1 / (2 n) for every k. A step of length h after one of length p adds h v_i + theta h^2 / (2 p) (v_i - v_{i-1}); theta
below 1 gives up a little order for stability (on the negative real axis |h lambda| < 2 / (1 + theta)). What was
measured: docs/performance.md.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from studio.settings import RANGES, GuidanceSchedule, ResolvedSettings, Speed

FAST_SHARE = 0.58  # nodes of `fast` per official step: 29 for 50
DRAFT_SHARE = 0.24  # of `draft`: 12 for 50
THETA = 0.8
LEAST_K = 13.0  # of fast and draft: measured on nano at shift 3 (tests/bench/LOG.md)
DRAFT_GUIDANCE = 4.0  # the most guidance of a draft without a calibration: so few nodes are unstable beyond it
# Fewer nodes are unstable; the more guidance, the more are needed (tests/bench/LOG.md).
FEWEST_NODES = 8
FEWEST_PER_GUIDANCE = 2
MOST_NODES = 1000  # of a plan in a file


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
        return self.forwards_of(len(self.nodes))

    def forwards_of(self, steps: int) -> dict[str, int]:
        """Passes of the first `steps` nodes, by kind."""
        return {"conditional": steps, "unconditional": sum(node.passes == 2 for node in self.nodes[:steps])}

    def passes(self, begin: int, end: int) -> int:
        """Passes of the nodes begin..end-1, of both kinds."""
        return sum(node.passes for node in self.nodes[begin:end])

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
            speed, theta, calibrated = Speed(data["speed"]), _number(data["theta"]), data["calibrated"]
            pairs = data["nodes"] if len(data["nodes"]) <= MOST_NODES else []
            nodes = tuple(Node(_number(time), _number(guidance)) for time, guidance in pairs)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"it is no evaluation plan ({type(error).__name__}: {error})") from None
        plan = cls(speed, nodes, theta, calibrated is True)
        rising = all(a < b for a, b in pairwise(plan.times))
        if not (nodes and abs(nodes[0].time) < 1e-6 and rising and 0 <= theta <= 1):
            raise ValueError("its times must rise from 0 to below 1, with theta from 0 to 1")
        if not (np.diff(np.asarray(plan.times, dtype=np.float32)) > 0).all():  # what steps are made of
            raise ValueError("some of its times are equal in float32")
        low, high = RANGES["cfg_scale"]
        if not all(low <= node.guidance <= high for node in nodes):
            raise ValueError(f"its guidance must lie between {low:g} and {high:g}")
        return plan


@dataclass(frozen=True)
class Rule:
    """Refined nodes: how many, with which k (see this file's head), and the theta of their steps."""

    nodes: int
    k: float
    theta: float

    def plan(
        self,
        cfg_scale: float,
        speed: Speed = Speed.FAST,
        *,
        schedule: GuidanceSchedule = GuidanceSchedule.CONSTANT,
        calibrated: bool = False,
    ) -> EvaluationPlan:
        """The plan at this guidance."""
        nodes = _guided(refined_times(self.nodes, self.k), cfg_scale, schedule)
        return EvaluationPlan(speed, nodes, self.theta, calibrated)

    def scaled(self, steps: int, measured_steps: int) -> "Rule":
        """For another number of official steps than it was measured against.

        Its error falls with the square of its nodes, Euler's with its steps: the root keeps the one below the other.
        Whether so few are stable is another question (Calibration.rule).
        """
        return replace(self, nodes=min(math.ceil(round(self.nodes * (steps / measured_steps) ** 0.5, 6)), steps))


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` chose on a checkpoint in place of `infer_steps` official steps, up to the guidance `cfg_scale`.

    time_shift: of the official steps it was compared with. With less of it they are more exact (tests/bench/LOG.md), so
    the choice stands for those of as much shift and more. It was measured under constant guidance.
    draft: None where few nodes do worse at full guidance than at DRAFT_GUIDANCE. errors: what was measured, for people.
    """

    fast: Rule
    draft: Rule | None
    infer_steps: int
    cfg_scale: float
    time_shift: float
    errors: Mapping[str, float]

    def serves(self, cfg_scale: float, time_shift: float, schedule: str = GuidanceSchedule.CONSTANT) -> bool:
        """Whether it was measured with as much guidance, against official steps no worse than these."""
        measured = schedule == GuidanceSchedule.CONSTANT
        return measured and cfg_scale <= self.cfg_scale and time_shift >= self.time_shift

    def rule(self, speed: Speed, steps: int, cfg_scale: float) -> Rule | None:
        """What it takes for so many official steps; None for exact, and for draft where it has none.

        As many nodes as were measured are stable, fewer only as far as is known of the guidance.
        """
        chosen = {Speed.FAST: self.fast, Speed.DRAFT: self.draft}.get(speed)
        if chosen is None:
            return None
        scaled = chosen.scaled(steps, self.infer_steps)
        return replace(scaled, nodes=max(scaled.nodes, min(chosen.nodes, _fewest(cfg_scale))))


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
    served = calibration is not None and calibration.serves(cfg_scale, time_shift, schedule)
    chosen = calibration.rule(speed, infer_steps, cfg_scale) if calibration is not None and served else None
    k = max(time_shift, LEAST_K)
    if chosen is not None:
        rule, limit = chosen, cfg_scale
    elif speed is Speed.FAST:
        rule, limit = Rule(_share(FAST_SHARE, infer_steps, cfg_scale), k, THETA), cfg_scale
    else:
        limit = min(cfg_scale, DRAFT_GUIDANCE)
        rule = Rule(_share(DRAFT_SHARE, infer_steps, limit), k, THETA)
    if rule.nodes >= infer_steps:  # no pass is saved: the official steps are the safe ones
        return EvaluationPlan(speed, _guided(official_times(infer_steps, time_shift), cfg_scale, schedule))
    return rule.plan(limit, speed, schedule=schedule, calibrated=chosen is not None)


def plan_of(settings: ResolvedSettings, calibrations: Iterable[Calibration] = ()) -> EvaluationPlan:
    """The plan of checked settings. calibrations: of the model; of those that serve, the one with the fewest nodes."""
    speed, schedule = Speed(settings.speed), GuidanceSchedule(settings.guidance_schedule)
    steps, shift, guidance = settings.infer_steps, settings.time_shift, settings.cfg_scale
    serving = [found for found in calibrations if found.serves(guidance, shift, schedule)]
    rules = [(rule.nodes, found.cfg_scale, found) for found in serving if (rule := found.rule(speed, steps, guidance))]
    best = min(rules, key=lambda row: row[:2], default=None)  # of as many nodes, what was measured nearest to it
    calibration = None if best is None else best[-1]
    return make_plan(steps, shift, guidance, speed, schedule=schedule, calibration=calibration)


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


def _share(share: float, steps: int, cfg_scale: float) -> int:
    """Nodes for so many official steps, at least as many as are stable with the guidance."""
    return max(math.ceil(round(share * steps, 6)), _fewest(cfg_scale))


def _fewest(cfg_scale: float) -> int:
    """Nodes that are stable with the guidance."""
    return max(FEWEST_NODES, math.ceil(FEWEST_PER_GUIDANCE * cfg_scale))


def _number(value: Any) -> float:
    """A finite number of json. Raises TypeError or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{str(value)[:20]!r} is no number")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError("a number is too large") from None
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number


def _guided(times: tuple[float, ...], cfg_scale: float, schedule: GuidanceSchedule) -> tuple[Node, ...]:
    if schedule is GuidanceSchedule.FALLING:
        return tuple(Node(time, max(cfg_scale - 9 * time * (cfg_scale - 1), 1.0)) for time in times)
    return tuple(Node(time, float(cfg_scale)) for time in times)
