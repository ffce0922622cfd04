"""Advice beside a camera move: words of the prompt against it, and the motion score that follows it."""

from studio.camera_advice import better_score, other_move
from studio.config import load_camera_moves

MOVES = load_camera_moves()


def test_a_prompt_that_moves_the_camera_otherwise_is_found() -> None:
    for prompt, key, found in (
        ("镜头缓慢拉远，女孩在跳舞", "orbit", "镜头缓慢拉远"),
        ("镜头环绕女孩，女孩在跳舞", "orbit", ""),
        ("女孩在跳舞，固定镜头。", "left", "固定镜头"),
        ("a girl dances, the camera moves in", "fixed", "camera"),
        ("a slow ZOOM on a panda with a pan", "left", "ZOOM"),
        ("a panda eats in a company", "left", ""),
        ("镜头拉远", "", ""),
        ("镜头拉远", "gone", ""),
    ):
        assert other_move(prompt, key, MOVES) == found, prompt


def test_a_move_wants_a_score_from_5_to_10() -> None:
    found = {score: better_score("orbit", score, MOVES) for score in (2, 4.5, 5, 7, 10, 20, "")}
    assert found == {2: 10, 4.5: 10, 5: None, 7: None, 10: None, 20: 10, "": None}
    assert better_score("fixed", 2, MOVES) is better_score("", 2, MOVES) is None
