"""Which rule stands for the official steps on the user's own checkpoint, measured on it.

Every candidate's endpoint is compared with a dense run of the same request. The bar is the official sampler's mean
error; a rule is out as soon as one request exceeds it, and of the rules with equally many nodes the better half goes on
to the next request. Chosen are the fewest nodes whose maximum is below the bar, at the small size and at a larger one.
A rule whose velocities grew beyond the sampler's bound has to keep below half the bar: four requests do not show how
far a rule that nearly diverges may go on a fifth (tests/bench/LOG.md).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from studio.pipeline.endpoints import Subject, distance
from studio.pipeline.evaluation_plan import (
    LEAST_K,
    Calibration,
    EvaluationPlan,
    Rule,
    make_plan,
)
from studio.settings import Speed

OFFICIAL_STEPS = 50
DENSE_NODES = 96
DENSE_CHECK_K = 3.0  # the dense run is compared once with one whose nodes lie elsewhere
DRAFT_NODES = 12
FEWEST_SUBJECTS = 4
GROWN_SHARE = 0.5  # of the bar, for a rule whose velocities grew where the dense run's did not


@dataclass(frozen=True)
class Candidates:
    """The rules to compare: every k with every theta and every number of nodes; drafts have their own number."""

    nodes: tuple[int, ...] = (14, 20, 26, 29)
    ks: tuple[float, ...] = (3.0, 5.0, 8.0, 13.0)
    thetas: tuple[float, ...] = (0.6, 0.8, 1.0)
    draft_nodes: int = DRAFT_NODES
    dense_nodes: int = DENSE_NODES

    @property
    def fast(self) -> list[Rule]:
        """What may become `fast`."""
        return [Rule(*rule) for rule in product(self.nodes, self.ks, self.thetas)]

    @property
    def drafts(self) -> list[Rule]:
        """What may become `draft`."""
        return [Rule(self.draft_nodes, k, theta) for k, theta in product(self.ks, self.thetas)]


QUICK = Candidates(nodes=(14, 20, 29), ks=(3.0, 13.0), thetas=(0.8,))


@dataclass(frozen=True)
class Setup:
    """The requests, and what they share. subjects: FEWEST_SUBJECTS or more, at the small size; larger: one at another.

    other_seed: the first subject's request with another seed, for the distance between two videos of one prompt.
    """

    subjects: Sequence[Subject]
    larger: Subject
    other_seed: Subject
    candidates: Candidates = field(default_factory=Candidates)

    @property
    def cfg_scale(self) -> float:
        """The guidance of all requests."""
        return self.larger.settings.cfg_scale

    @property
    def dense(self) -> EvaluationPlan:
        """What stands for the solution: it does not depend on the shift, and nodes for less of it than LEAST_K would
        be those of the check."""
        k = max(self.larger.settings.time_shift, LEAST_K)
        return Rule(self.candidates.dense_nodes, k, 1.0).plan(self.cfg_scale)

    @property
    def dense_check(self) -> EvaluationPlan:
        """The same with nodes elsewhere."""
        return Rule(self.candidates.dense_nodes, DENSE_CHECK_K, 1.0).plan(self.cfg_scale)

    @property
    def official(self) -> EvaluationPlan:
        """The official sampler."""
        return make_plan(OFFICIAL_STEPS, self.larger.settings.time_shift, self.cfg_scale)

    @property
    def default_draft(self) -> EvaluationPlan:
        """The draft of a model that is not calibrated."""
        return make_plan(OFFICIAL_STEPS, self.larger.settings.time_shift, self.cfg_scale, Speed.DRAFT)


@dataclass(frozen=True)
class Errors:
    """Endpoint errors of one plan, one per subject. growths: how often its velocities grew beyond the bound."""

    values: tuple[float, ...] = ()
    growths: int = 0

    @property
    def mean(self) -> float:
        """Their mean."""
        return sum(self.values) / len(self.values)

    @property
    def maximum(self) -> float:
        """The worst."""
        return max(self.values, default=math.inf)

    def with_one(self, value: float, growths: int) -> "Errors":
        """With the next subject's."""
        return Errors((*self.values, value), self.growths + growths)


@dataclass(frozen=True)
class Outcome:
    """What was measured. finalists: per number of nodes the best rule that kept below the bar to the end.

    dense_growths: of the dense runs, which are right; where there are any, growth tells nothing on this checkpoint.
    larger: at the larger size, the official sampler ("official") and the finalists that were tried there, by nodes.
    seed_distance: between the videos of two seeds. dense_error: between the two dense runs. chosen: None where no rule
    may stand for the official steps.
    """

    official: Errors
    dense_growths: int
    finalists: dict[Rule, Errors]
    default_draft: Errors
    draft: Rule | None
    drafts: dict[Rule, Errors]
    larger: dict[str, float]
    seed_distance: float
    dense_error: float
    chosen: Rule | None
    cfg_scale: float
    time_shift: float

    @property
    def calibration(self) -> Calibration | None:
        """What to store."""
        if self.chosen is None:
            return None
        best = self.finalists[self.chosen]
        errors = {
            "official mean": self.official.mean,
            "official maximum": self.official.maximum,
            "fast mean": best.mean,
            "fast maximum": best.maximum,
            "two seeds": self.seed_distance,
            "dense": self.dense_error,
        }
        if self.draft is not None:
            errors |= {"draft mean": self.drafts[self.draft].mean, "draft maximum": self.drafts[self.draft].maximum}
        rounded = {name: round(value, 5) for name, value in errors.items()}
        return Calibration(self.chosen, self.draft, OFFICIAL_STEPS, self.cfg_scale, self.time_shift, rounded)


def calibrate(setup: Setup) -> Outcome:
    """Measure and choose. Endpoints that are known are not computed again. Raises StudioError, Cancelled included."""
    dense = [subject.end(setup.dense) for subject in setup.subjects]
    dense_growths = sum(state.growths for state in dense)

    def measure(plan: EvaluationPlan, index: int, errors: Errors) -> Errors:
        state = setup.subjects[index].end(plan)
        return errors.with_one(distance(state.latents, dense[index].latents), state.growths)

    def over_all(plan: EvaluationPlan) -> Errors:
        errors = Errors()
        for index in range(len(setup.subjects)):
            errors = measure(plan, index, errors)
        return errors

    official, default_draft = over_all(setup.official), over_all(setup.default_draft)

    def fits(errors: Errors) -> bool:
        grown = errors.growths > 0 and not dense_growths
        return errors.maximum < official.mean * (GROWN_SHARE if grown else 1)

    def run(rules: list[Rule], fits: Callable[[Errors], bool]) -> dict[Rule, Errors]:
        return race(rules, len(setup.subjects), fits, lambda r, i, e: measure(r.plan(setup.cfg_scale), i, e))

    finalists = best_by_nodes(run(setup.candidates.fast, fits))
    drafts = run(setup.candidates.drafts, lambda errors: True)
    larger, chosen = _check_larger(setup, finalists)
    best_draft = min(drafts, key=lambda rule: drafts[rule].maximum)
    first = setup.subjects[0]
    return Outcome(
        official=official,
        dense_growths=dense_growths,
        finalists=finalists,
        default_draft=default_draft,
        draft=best_draft if drafts[best_draft].maximum < default_draft.maximum else None,
        drafts=drafts,
        larger=larger,
        seed_distance=distance(setup.other_seed.end(setup.official).latents, first.end(setup.official).latents),
        dense_error=distance(first.end(setup.dense_check).latents, dense[0].latents),
        chosen=chosen,
        cfg_scale=setup.cfg_scale,
        time_shift=setup.larger.settings.time_shift,
    )


def race(
    rules: Iterable[Rule], rounds: int, fits: Callable[[Errors], bool], measure: Callable[[Rule, int, Errors], Errors]
) -> dict[Rule, Errors]:
    """The errors of the rules that are still in after the last round; measure(rule, round, errors so far).

    After each round what does not fit is out, and after each but the last one, of the rules with equally many nodes, as
    many as the better half of them was (by the maximum so far; two at least) stay, and the best of every theta: less of
    it is less exact and more stable, which may show in the last round only.
    """
    errors = {rule: Errors() for rule in rules}
    for index in range(rounds):
        errors = {rule: measure(rule, index, so_far) for rule, so_far in errors.items()}
        errors = _better_half(errors, fits) if index < rounds - 1 else {r: e for r, e in errors.items() if fits(e)}
    return errors


def best_by_nodes(errors: Mapping[Rule, Errors]) -> dict[Rule, Errors]:
    """Of each number of nodes the rule with the least maximum; fewest nodes first."""
    best: dict[int, Rule] = {}
    for rule in sorted(errors, key=lambda rule: (rule.nodes, errors[rule].maximum)):
        best.setdefault(rule.nodes, rule)
    return {rule: errors[rule] for rule in best.values()}


def most_passes(subjects: int, candidates: Candidates) -> dict[str, int]:
    """At most so many passes: at the small size ("small") and at the larger one ("larger"), where no rule is out early.

    Two a node, as with guidance.
    """
    official, dense = 2 * OFFICIAL_STEPS, 2 * candidates.dense_nodes
    small = subjects * (official + dense + 2 * DRAFT_NODES) + official + dense
    per_group = len(candidates.ks) * len(candidates.thetas)
    for _ in range(subjects):
        small += per_group * 2 * (sum(candidates.nodes) + candidates.draft_nodes)
        per_group = max(_half(per_group), len(candidates.thetas))
    return {"small": small, "larger": official + dense + 2 * sum(candidates.nodes)}


def _half(count: int) -> int:
    """The better half: two at least, where there are so many."""
    return max(math.ceil(count / 2), min(count, 2))


def _better_half(errors: Mapping[Rule, Errors], fits: Callable[[Errors], bool]) -> dict[Rule, Errors]:
    kept: dict[Rule, Errors] = {}
    for nodes in sorted({rule.nodes for rule in errors}):
        group = sorted((rule for rule in errors if rule.nodes == nodes), key=lambda rule: errors[rule].maximum)
        fitting = [rule for rule in group if fits(errors[rule])]
        steadiest = {rule.theta: rule for rule in reversed(fitting)}.values()  # the best of each
        ranked = [*steadiest, *(rule for rule in fitting if rule not in steadiest)]
        kept |= {rule: errors[rule] for rule in ranked[: max(_half(len(group)), len(steadiest))]}
    return kept


def _check_larger(setup: Setup, finalists: dict[Rule, Errors]) -> tuple[dict[str, float], Rule | None]:
    """Errors at the larger size, and the first finalist that is better there than the official sampler."""
    if not finalists:
        return {}, None
    dense = setup.larger.end(setup.dense).latents
    errors = {"official": distance(setup.larger.end(setup.official).latents, dense)}
    for rule in finalists:
        error = errors[str(rule.nodes)] = distance(setup.larger.end(rule.plan(setup.cfg_scale)).latents, dense)
        if error < errors["official"]:
            return errors, rule
    return errors, None
