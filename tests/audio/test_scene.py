"""Scenes in words: the wish as it was written, in both languages; what no table knows is listed."""

import pytest

from studio.audio.scene import PLACE_SOUNDS, PLACE_WORDS, SOUND_WORDS, SURFACE_WORDS, read_scene
from studio.audio.sounds import SOUNDS
from studio.errors import InputError

WISHES = (
    "0-2 s under water, 2-4 s the splash, 4-8 s wet steps on the pool's edge, 8-10 s indoors",
    "0-2 s: under water\n2–4 s: The splash.\n0:04 - 0:08: wet steps on the pool’s edge; 8 to 10 seconds indoors",
    "0-2秒：水下，2-4秒：水花声，4-8秒：泳池边湿漉漉的脚步声，8-10秒：室内",
    "从０到２秒，水里。2~4秒 跳水的声音，4至8秒：赤脚在泳池边走路，8-10 秒钟 屋里",
)


def test_the_wish_becomes_its_layers_in_both_languages() -> None:
    expected = [("under_water", 0, 2), ("splash", 2, 4), ("steps_wet", 4, 8), ("room_hum", 8, 10)]
    for wish in WISHES:
        scene = read_scene(wish)
        assert [(layer.sound, layer.start, layer.end) for layer in scene.layers] == expected, wish
        assert scene.unknown == (), wish


def test_places_volume_and_surfaces_change_layers_and_the_unknown_is_listed() -> None:
    cases = {
        "0-3 s: loud rain and a distant engine with a violin": (
            [("rain", 6, "dry"), ("engine", -12, "dry")],
            ["violin"],
        ),
        "0-3 s: footsteps on the wooden floor in a hall": ([("steps_wood", 0, "hall"), ("room_hum", -12, "hall")], []),
        "0-3 s: footsteps": ([("steps_stone", 0, "dry")], []),
        "0-3 s: heart beats, under water": ([("heartbeat", 0, "under_water"), ("under_water", -12, "dry")], []),
        "0-3秒：远处有鸟叫声，还有钢琴": ([("birds", -12, "dry")], ["还 钢琴"]),
        "a bell. 0-3 s rain, 3-5 s <b>xylophone</b>": ([("rain", 0, "dry")], ["a bell", "<b>xylophone< /b>"]),
        "0-2.5s: water drops fall; train": ([("drips", 0, "dry")], ["fall", "train"]),
        "1-2 s rain, rain and rain": ([("rain", 0, "dry")], []),
    }
    wrong = []
    for text, (layers, unknown) in cases.items():
        scene = read_scene(text)
        found = [(layer.sound, layer.gain_db, layer.room) for layer in scene.layers]
        left = [word.replace("</", "< /") for word in scene.unknown]
        if found != layers or left != unknown:
            wrong.append(f"{text}: {found} {left}")
    assert not wrong, "\n".join(wrong)
    tables = (*SOUND_WORDS, *SURFACE_WORDS, *PLACE_SOUNDS.values())
    assert set(tables) <= set(SOUNDS) and set(PLACE_SOUNDS) == set(PLACE_WORDS)
    for name in SOUNDS:
        assert name in tables, f"{name}: no words for it"


def test_scenes_without_anything_known_are_refused() -> None:
    cases = {"": "scene_empty", "rain": "scene_empty", "3-4 birds": "scene_empty", "0-2 s: trombone": "scene_empty"}
    for text, code in {**cases, "0-1 s: rain, " * 1000: "scene_long"}.items():
        with pytest.raises(InputError) as failure:
            read_scene(text)
        assert failure.value.code == code, text[:40]
    assert "trombone" in str(pytest.raises(InputError, read_scene, "0-2 s: trombone").value)
