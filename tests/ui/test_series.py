"""Chains, variations and comparisons: what the page offers, and what is done when it is clicked."""

import re
from types import SimpleNamespace

from PIL import Image

from studio.errors import InputError
from studio.filenames import LAST_FRAME, LATENTS
from studio.media import png_bytes
from studio.queue.frames import FrameDesk, FrameWish, WishState
from studio.queue.job import Link
from studio.service.rights import Right, asking
from tests.queue.test_chains import make
from tests.ui.clicks import EVIL, filled, message, submit

SMALL = {"num_frames": 17, "height": 64, "width": 96}


def act(page, panel, id, language="en", **said):
    data = {page.stage.focus: id, page.create.language: language}
    return panel.acted(data, SimpleNamespace(**said))


def looked(page, id, language="en"):
    updates = page.stage.look(id, language)
    series = page.stage.series
    return updates[series.extend], updates[series.grid], updates[series.moves]


def test_a_finished_clip_is_extended_and_the_chain_joined(page, fake):
    first, panel = submit(page, **SMALL), page.stage.series
    assert looked(page, first.id) == ("", "", ""), "nothing to extend before there is a video"
    make(fake.backend.queue, fake.folder)
    extend, grid, moves = looked(page, first.id)
    assert 'data-act="extend"' in extend and "chain" not in extend and grid == "" and "Orbit" in moves
    answer = act(page, panel, first.id, act="extend", count="2", prompt=EVIL, cut="false")
    one, two = fake.backend.queue.in_order()
    assert answer[page.stage.focus] == one.id and "2 more" in message(page, answer)
    assert (one.source, two.source, two.settings.prompt) == (first.id, one.id, EVIL)
    act(page, panel, first.id, act="extend", count="1", prompt="", cut="true")
    assert fake.backend.queue.in_order()[-1].cut
    extend = looked(page, two.id)[0]
    assert extend == "", "a clip that waits offers nothing"
    made = make(fake.backend.queue, fake.folder)
    extend = looked(page, made.id, "zh")[0]
    assert "拼接 2 个片段" in extend and EVIL not in extend and extend.count("<li") == 3
    said = message(page, act(page, panel, made.id, act="join"))
    (joined,) = [entry for entry in fake.backend.gallery.list() if entry.job is None]
    assert joined.path.name in said and "gallery" in said
    assert "no part" in message(page, act(page, panel, made.id, act="part", first="3", last="99"))
    assert "保存为" in message(page, act(page, panel, made.id, "zh", act="part", first="10", last="30"))
    for wrong in ({"act": "extend", "count": "x"}, {"act": "part", "first": "-1"}, {"act": "rm"}, {}):
        assert "alert good" not in message(page, act(page, panel, made.id, **wrong))
    fake.is_owner = False
    assert act(page, panel, made.id, act="extend")[page.create.message] == "" and looked(page, made.id)[0] == ""


def test_moves_are_varied_in_a_grid_that_fills(page, fake):
    first, panel, queue = submit(page, **SMALL), page.stage.series, fake.backend.queue
    make(queue, fake.folder)
    assert "at least one" in message(page, act(page, panel, first.id, act="moves", moves="none"))
    answer = act(page, panel, first.id, act="moves", moves=f"orbit fixed {EVIL} zoom-in push-in")
    ids = [job.id for job in queue.in_order()]
    assert answer[page.stage.focus] == ids[0] and len({job.project for job in queue.in_order()}) == 1
    grid = looked(page, ids[0])[1]
    assert "0 of 4 done" in grid and "Orbit" in grid and "--columns:2" in grid and "<video" not in grid
    for done in (1, 2):
        make(queue, fake.folder)
        grid = looked(page, ids[3])[1]
        assert f"{done} of 4 done" in grid and grid.count("<video") == done
    assert f'data-compare="{ids[0]} {ids[1]}"' in grid


def test_videos_are_compared_and_one_is_kept(page, fake):
    compare, queue = page.compare, fake.backend.queue
    jobs = queue.submit_all([submit(page, seed=seed, **SMALL).settings for seed in (1, 2)], link=Link("vary-x"))
    made = [make(queue, fake.folder) for _ in range(4)]
    ids = [job.id for job in made]
    data = {page.language: "en"}
    shown = compare.compared(data, SimpleNamespace(act="compare", ids=" ".join(ids)))[compare.dialog]
    assert shown.count("<figure") == 4 and shown.count("<mark>") == 4 and "Everything else is the same" in shown
    assert (
        "对比"
        in compare.compared({page.language: "zh"}, SimpleNamespace(act="compare", ids=" ".join(ids[:2])))[
            compare.dialog
        ]
    )
    few = compare.compared(data, SimpleNamespace(act="compare", ids=f"{ids[0]} {ids[0]} {EVIL}"))[compare.dialog]
    assert "two to four" in few and EVIL not in few
    asked = SimpleNamespace(act="keep", id=ids[1], ids=" ".join(ids[:3]))
    answer = compare.acted(data, asked)
    assert answer[compare.dialog] == "" and [queue.get(id) is None for id in ids] == [True, False, True, False]
    assert f'data-id="{ids[0]} {ids[2]}"' in answer[compare.undo]
    compare.bring_back(data, SimpleNamespace(id=f"{ids[0]} {ids[2]}"))
    assert all(queue.get(id) for id in ids) and len(jobs) == 2
    compare.acted(data, SimpleNamespace(act="keep", id="none", ids=" ".join(ids)))
    fake.is_owner = False
    compare.acted(data, asked)
    assert all(queue.get(id) for id in ids), "only the owner deletes, and only beside one that is kept"


def test_a_frame_says_where_it_comes_from(page, fake):
    job = submit(page, **SMALL)
    made = make(fake.backend.queue, fake.folder)
    data, said = filled(page), ("taken from the mp4", "exactly as it was decoded")
    assert said[0] in message(page, page.events.frames.given(data, SimpleNamespace(id=job.id, frame="16")))
    (made.folder / LAST_FRAME).write_bytes(png_bytes(Image.new("RGB", (96, 64), "red")))
    assert said[1] in message(page, page.events.frames.given(data, SimpleNamespace(id=job.id, frame="16")))
    assert said[0] in message(page, page.events.frames.given(data, SimpleNamespace(id=job.id, frame="3")))


def test_a_frame_is_decoded_from_latents_where_they_are_kept(page, fake):
    """The bar waits, then the worker's frame is taken; what keeps it from that is said, with the mp4's frame."""
    desk, frames, bar = FrameDesk(fake.backend.queue.folder), page.events.frames, page.create.frame_bar
    object.__setattr__(fake.backend, "frames", desk)
    job = submit(page, **SMALL)
    made = make(fake.backend.queue, fake.folder)
    (made.folder / LATENTS).write_bytes(b"latents")
    data, exact = filled(page), "exactly as it was decoded"

    def asked(**more):
        updates = frames.given(data, SimpleNamespace(id=job.id, frame="3"))
        assert "decoded from the latents" in updates[bar] and updates[page.create.message] == ""
        told = dict(re.findall(r'data-(\w+)="([^"]*)"', updates[bar]))
        return {"act": "look", **{name: told[name] for name in ("wish", "id", "frame", "shown")}, **more}

    click = asked()
    assert "__type__" in frames.answered(data, SimpleNamespace(**click))[bar], "the same words are not drawn again"
    submit(page, **SMALL)
    fake.backend.queue.claim()
    waits = frames.answered(data | {page.create.language: "zh"}, SimpleNamespace(**click))[bar]
    assert "当前视频完成后" in waits and "立即取自 mp4" in waits
    wished = []
    desk.serve(lambda wish: wished.append(wish) or png_bytes(Image.new("RGB", (96, 64), "red")))
    assert wished == [FrameWish(made.folder / LATENTS, 4)]
    updates = frames.answered(data, SimpleNamespace(**click))
    assert exact in message(page, updates) and updates[bar] == "" and updates[page.create.picture_size] == "96x64"
    assert desk.state(click["wish"]) is WishState.GONE

    def refuse(wish):
        raise InputError("latents_unfinished", step=2)

    click = asked()
    desk.serve(refuse)
    said = message(page, frames.answered(data, SimpleNamespace(**click)))
    assert "of step 2" in said and "taken from the mp4" in said
    assert "taken from the mp4" in message(page, frames.answered(data, SimpleNamespace(**asked(act="mp4"))))
    assert frames.answered(data, SimpleNamespace(**asked(act="leave"))) == {bar: ""} and not desk.waits()
    with asking(Right.WATCH):
        said = message(page, frames.given(data, SimpleNamespace(id=job.id, frame="3")))
    assert "taken from the mp4" in said, "a guest who only watches gives the worker nothing to do"
    object.__setattr__(fake.backend, "frames", None)
