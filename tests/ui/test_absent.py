"""Models that are not here: one line, what each needs, and its download as it is asked for by a page."""

from types import SimpleNamespace

from tests.ui.clicks import EVIL, filled, in_gallery
from tests.ui.conftest import ALL


def test_absent_models_are_one_line_that_opens_their_plans(page, fake, monkeypatch):
    absent = page.create.absent
    monkeypatch.setattr(fake, "names", ("nano",))
    data = {absent.is_open: "", absent.seen: "", absent.language: "en"}
    line = page.open("en", None)[absent.panel]
    assert "3 big models: see what fits" in line and "<section>" not in line
    opened = absent.acted(data, SimpleNamespace(act="toggle"))
    shown = opened[absent.panel]
    assert opened[absent.is_open] and shown.count("<section>") == 3 and shown.count("Fits:") == 3
    assert "about 98 GB" in shown and "512 GB" in shown and "魔搭" not in shown and "ModelScope" in shown
    data[absent.is_open] = "open"
    assert "<section>" not in absent.acted(data, SimpleNamespace(act="toggle"))[absent.panel]
    for name, source in ((EVIL, "hf"), ("nano", "hf"), ("step-video-t2v", "elsewhere"), ("step-video-t2v", EVIL)):
        told = absent.acted(data, SimpleNamespace(act="get", id=name, source=source))[absent.panel]
        assert "alert bad" in told and EVIL not in told
    assert absent.follow(data | {absent.seen: absent.stamp()}) == {}
    monkeypatch.setattr(fake, "names", ALL)
    later = page.tick(filled(page) | in_gallery(page, "") | data | {page.seen: ""})
    assert "Step-Video T2V Turbo" in later[absent.panel] and "big models" not in later[absent.panel]
    assert len(later[page.create.fields["model"]]["choices"]) == 4
