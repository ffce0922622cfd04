"""The passes of a node: which texts are computed, and that the last node of a plan prefetches nothing."""

import torch

from models.geometry import VideoShape
from studio.pipeline.encode import Conditioning
from studio.pipeline.evaluation_plan import EvaluationPlan, Node
from studio.pipeline.sampler import SamplerState, denoise, noise
from studio.settings import Speed


class Transformer:
    """Answers every pass with zeros and notes what it was asked."""

    def __init__(self):
        self.asked = []

    def velocities(self, latents, time, conditions, *, image_latents, motion_score, cancelled, last):
        self.asked.append((time, list(conditions), image_latents, motion_score, last))
        return [torch.zeros_like(latents) for _ in conditions]


def test_each_node_computes_its_texts_and_only_the_last_prefetches_nothing():
    nodes = (Node(0.0, 4.0), Node(0.5, 4.0), Node(0.75, 1.0))
    plan, transformer, image = EvaluationPlan(Speed.FAST, nodes, 1.0), Transformer(), torch.ones(1)
    told = Conditioning(["with", "without"], image, 5.0)
    passes = told.passes(transformer, lambda: False, last=nodes[-1])
    list(denoise(SamplerState(noise(VideoShape(17, 64, 64), 4, 1), 0), plan, passes))
    assert transformer.asked == [
        (0.0, ["with", "without"], image, 5.0, False),
        (0.5, ["with", "without"], image, 5.0, False),
        (0.75, ["with"], image, 5.0, True),
    ]
