"""Choosing a rule on a checkpoint: the race, the choice, its cost, and what is stored; a small function computes."""

import json
import math
import os
from dataclasses import asdict, replace
from types import SimpleNamespace

import torch

from models.geometry import VideoShape
from studio.config import load_studio
from studio.pipeline.calibrate import (
    QUICK,
    Candidates,
    Setup,
    best_by_nodes,
    calibrate,
    most_passes,
    race,
)
from studio.pipeline.calibrated import Calibrations
from studio.pipeline.calibration_file import FOLDER, known_calibrations, remove_calibration, store_calibration
from studio.pipeline.endpoints import distance
from studio.pipeline.engine import CACHE_FOLDER, EngineOptions, recalibrated
from studio.pipeline.evaluation_plan import Calibration, Rule
from studio.pipeline.sampler import SamplerState, denoise, noise

VIDEO = VideoShape(17, 64, 64)
FOUND = Calibration(Rule(20, 5.0, 1.0), Rule(12, 3.0, 0.6), 50, 9.0, 13.0, {"official mean": 0.1})


class Toy:
    """A subject whose network is a few lines: it can be asked for the end of any plan, and counts its passes."""

    def __init__(self, seed, cfg_scale=6.0, stiffness=2.0, time_shift=13.0):
        self.seed, self.stiffness, self.passes = seed, stiffness, 0
        self.settings = SimpleNamespace(cfg_scale=cfg_scale, time_shift=time_shift)
        self.ends = {}

    def end(self, plan):
        if plan not in self.ends:
            *_, last = denoise(SamplerState(noise(VIDEO, 4, self.seed), 0), plan, self._velocities)
            self.ends[plan] = last.state
        return self.ends[plan]

    def _velocities(self, latents, node):
        self.passes += node.passes
        pull = torch.tanh(latents * self.stiffness) + self.seed * 0.01
        return [node.time - pull, 0.8 * (node.time - pull)][: node.passes]


def setup(candidates=None, count=4, **fields):
    toys = [Toy(seed, **fields) for seed in range(count + 2)]
    return Setup(toys[:count], toys[count], toys[count + 1], candidates or Candidates()), toys


def test_the_fewest_nodes_below_the_official_mean_are_chosen_and_hold_on_others():
    made, _ = setup()
    outcome = calibrate(made)
    chosen, errors = outcome.chosen, outcome.finalists[outcome.chosen]
    assert errors.maximum < outcome.official.mean and len(errors.values) == 4
    assert chosen.nodes == min(rule.nodes for rule in outcome.finalists)
    assert outcome.larger[str(chosen.nodes)] < outcome.larger["official"]
    assert outcome.dense_error < errors.mean < outcome.seed_distance
    for seed in range(50, 58):
        toy = Toy(seed)
        truth, official = toy.end(made.dense).latents, toy.end(made.official).latents
        assert distance(toy.end(chosen.plan(6.0)).latents, truth) < distance(official, truth)
    assert outcome.calibration.fast == chosen and (outcome.calibration.cfg_scale, outcome.calibration.time_shift) == (
        6.0,
        13.0,
    )
    assert outcome.calibration.errors["fast maximum"] == round(errors.maximum, 5)


def test_the_dense_run_is_checked_with_nodes_elsewhere_at_any_shift():
    """At shift 3 it was once compared with itself; at 13 and above its nodes follow the shift."""
    for shift in (3.0, 13.0, 17.0):
        made, _ = setup(Candidates(nodes=(20,), ks=(13.0,), thetas=(0.8,), dense_nodes=40), time_shift=shift)
        assert made.dense == Rule(40, max(shift, 13.0), 1.0).plan(6.0)
        assert calibrate(made).dense_error > 0


def test_without_a_rule_below_the_bar_nothing_is_chosen():
    """With two nodes every rule is far off."""
    outcome = calibrate(setup(Candidates(nodes=(2,), ks=(13.0,), thetas=(1.0,)))[0])
    assert outcome.chosen is None and outcome.calibration is None and outcome.finalists == {}


def test_the_draft_keeps_its_guidance_only_where_that_is_nearer():
    outcome = calibrate(setup(QUICK)[0])
    best = min(errors.maximum for errors in outcome.drafts.values())
    assert (outcome.draft is not None) == (best < outcome.default_draft.maximum)
    far = calibrate(setup(replace(QUICK, draft_nodes=2))[0])
    assert far.draft is None and far.calibration.draft is None


def test_rules_whose_velocities_grow_have_half_the_bar_unless_dense_runs_grow_too(monkeypatch):
    made, toys = setup(Candidates(nodes=(14, 20), ks=(3.0, 13.0), thetas=(0.8,)))
    first = calibrate(made)

    def grown(nodes, share):
        """What is chosen where a plan of so many nodes grew, with its error at this share of the bar."""
        for toy in toys:
            for plan in list(toy.ends):
                toy.ends[plan] = replace(toy.ends[plan], growths=len(plan.nodes) in nodes)
        monkeypatch.setattr("studio.pipeline.calibrate.GROWN_SHARE", share)
        return calibrate(made)

    highest = first.finalists[first.chosen].maximum / first.official.mean
    assert first.chosen.nodes == 14
    assert grown({14}, 0.99 * highest).chosen.nodes == 20
    assert grown({14}, 1.01 * highest).chosen == first.chosen
    again = grown({14, 20, 96}, 0.0)
    assert again.dense_growths == 4 and again.chosen == first.chosen, "growth tells nothing there"


def test_few_rules_reach_the_last_request():
    seen = []

    def measure(rule, index, errors):
        seen.append((index, rule))
        return errors.with_one(0.01 * rule.k * (1 + index), 0)

    errors = race(Candidates().fast, 4, lambda errors: True, measure)
    counts = [sum(at == index for at, _ in seen) for index in range(4)]
    assert counts == [48, 24, 12, 12] and len(errors) == 12, "the best of every theta stays"
    assert {rule.k for rule in errors} == {3.0} and {rule.nodes for rule in errors} == {14, 20, 26, 29}
    assert [rule.nodes for rule in best_by_nodes(errors)] == [14, 20, 26, 29]
    seen.clear()
    race(Candidates().fast, 4, lambda errors: errors.maximum < 0.02, measure)
    assert [sum(at == index for at, _ in seen) for index in range(4)] == [48, 0, 0, 0], "out as soon as above the bar"

    def at_last_diverges(rule, index, errors):
        return errors.with_one(1.0 if index == 3 and rule.theta > 0.6 else 0.1 - 0.05 * rule.theta, 0)

    stable = race(Candidates().fast, 4, lambda errors: errors.maximum < 0.5, at_last_diverges)
    assert {rule.theta for rule in stable} == {0.6} and {rule.nodes for rule in stable} == {14, 20, 26, 29}


def test_no_more_passes_than_told_before():
    candidates = Candidates(nodes=(10, 14), ks=(3.0, 13.0), thetas=(0.8, 1.0), draft_nodes=8, dense_nodes=30)
    made, toys = setup(candidates)
    told = most_passes(4, candidates)
    calibrate(made)
    small, larger = sum(toy.passes for toy in (*toys[:4], toys[5])), toys[4].passes
    assert 0.6 * told["small"] < small <= told["small"] and 0 < larger <= told["larger"]


def test_choices_are_stored_per_model_guidance_and_shift_and_read_back(tmp_path):
    def known(model="ab", **kind):
        found = known_calibrations(tmp_path, model * 32, **kind)
        return sorted(found, key=lambda one: (one.cfg_scale, one.time_shift))

    assert known() == []
    store_calibration(tmp_path, "ab" * 32, FOUND)
    assert known() == [FOUND] and known("cd") == known(has_image=True) == [], "one network may serve both"
    others = [replace(FOUND, cfg_scale=4.0), replace(FOUND, time_shift=3.0)]
    for other in others:
        store_calibration(tmp_path, "ab" * 32, other)
    store_calibration(tmp_path, "ab" * 32, FOUND, has_image=True)
    assert known() == [*others, FOUND]
    better = replace(FOUND, fast=Rule(14, 3.0, 0.8))
    store_calibration(tmp_path, "ab" * 32, better)
    assert known() == [*others, better], "of the same guidance and shift the last one stays"
    for _ in range(2):
        remove_calibration(tmp_path, "ab" * 32, 9.0, 13.0)
        assert known() == others and known(has_image=True) == [FOUND]


def test_the_one_file_of_a_model_as_it_once_was_is_read_replaced_and_removed(tmp_path):
    old = tmp_path / FOLDER / f"{'ab' * 16}.json"
    old.parent.mkdir()
    old.write_text(json.dumps(asdict(FOUND)))
    better = replace(FOUND, fast=Rule(14, 3.0, 0.8))
    store_calibration(tmp_path, "ab" * 32, replace(FOUND, cfg_scale=4.0))
    assert FOUND in known_calibrations(tmp_path, "ab" * 32)
    store_calibration(tmp_path, "ab" * 32, better)
    assert FOUND not in known_calibrations(tmp_path, "ab" * 32)
    remove_calibration(tmp_path, "ab" * 32, 9.0, 13.0)
    assert known_calibrations(tmp_path, "ab" * 32) == (replace(FOUND, cfg_scale=4.0),)


def test_whatever_is_no_calibration_is_ignored(tmp_path):
    path = store_calibration(tmp_path, "ab" * 32, FOUND)
    good = json.loads(path.read_text())
    rule = good["fast"]
    wrong = ["", "null", "[]", "{", "\0", "9" * 9999, "[" * 9999, '{"fast": {}}']
    changes = [{"fast": None}, {"fast": []}, {"draft": 3}, {"errors": []}, {"errors": {"x": "y"}}, {"cfg_scale": 0}]
    changes += [{"fast": rule | {"nodes": nodes}} for nodes in (0, -3, 10**9, True, None, "20", [20])]
    changes += [{"fast": rule | {"k": k}} for k in (0, -1, 1e9, "x")] + [{"fast": rule | {"theta": 2}}]
    changes += [{"infer_steps": 0}, {"infer_steps": 1e9}, {"errors": {str(i): 0.1 for i in range(1000)}}]
    wrong += [json.dumps(good | change) for change in changes]
    wrong += [json.dumps(good | {"cfg_scale": math.nan}), json.dumps(good | {"errors": {"a": math.inf}})]
    taken = []
    for content in wrong:
        path.write_text(content)
        if known_calibrations(tmp_path, "ab" * 32):
            taken.append(content[:80])
    assert not taken, "\n".join(taken)
    path.unlink()
    os.mkfifo(path)
    assert known_calibrations(tmp_path, "ab" * 32) == (), "a pipe would hang its reader"


def test_an_engine_takes_what_was_chosen_for_its_model(open_tiny, model_dir, outputs):
    engine = open_tiny("step-video-t2v")
    assert engine.calibrations == ()
    store_calibration(outputs / CACHE_FOLDER, engine.provenance["model_fingerprint"], FOUND)
    assert open_tiny("step-video-t2v").calibrations == (FOUND,)
    other = open_tiny("step-video-ti2v")
    assert other.calibrations == (), "of another model"
    assert recalibrated(engine, SimpleNamespace(output_dir=outputs)).calibrations == (FOUND,)
    store_calibration(outputs / CACHE_FOLDER, other.provenance["model_fingerprint"], FOUND, has_image=True)
    config = load_studio(model_dir=str(model_dir), output_dir=str(outputs))
    known = Calibrations(config, EngineOptions("cpu"))
    for has_image in (False, True):
        assert known.serve(other.model, has_image, 9.0, 13.0), "before the picture is given, too"
        assert not known.serve(other.model, has_image, 9.0, 13.0, guidance_schedule="falling")
    assert known.serve(engine.model, False, 9.0, 13.0) and not known.serve(engine.model, False, 9.1, 13.0)
