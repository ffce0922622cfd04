"""Models that are not here: one line, what each needs, and its download as it is asked for by a page."""

from types import SimpleNamespace

from studio.prompt import compose
from studio.settings import GenerationSettings
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
    asked = []
    monkeypatch.setattr(fake.backend.downloads, "start", lambda *given, **named: asked.append((given, named)))
    for act in ("tokens", "get"):
        absent.acted(data, SimpleNamespace(act=act, id="step-video-ti2v", source="modelscope"))
    given = ("step-video-ti2v", "modelscope")
    assert asked == [(given, {"tokenizers_only": True}), (given, {"tokenizers_only": False})]
    assert absent.follow(data | {absent.seen: absent.stamp()}) == {}
    tokens_are_counted(page, fake, monkeypatch)
    monkeypatch.setattr(fake, "names", ALL)
    later = page.tick(filled(page) | in_gallery(page, "") | data | {page.seen: ""})
    assert "Step-Video T2V Turbo" in later[absent.panel] and "big models" not in later[absent.panel]
    assert len(later[page.create.fields["model"]]["choices"]) == 4


def tokens_are_counted(page, fake, monkeypatch):
    """Each card asks for the tokenizers alone; a prompt has meters of every absent model whose tokenizers are here."""
    absent, meters = page.create.absent, page.create.meters
    form = filled(page, prompt="a red ball")
    assert absent.show(True, "en")[absent.panel].count('data-act="tokens"') == 3
    assert "Step-Video" not in page.events.typed(form)[meters], "there is nothing to count with"
    monkeypatch.setattr(fake, "counted", ("step-video-t2v", "step-video-t2v-turbo", "step-video-ti2v"))
    assert 'data-act="tokens"' not in absent.show(True, "en")[absent.panel]
    told = page.events.typed(form)[meters]
    assert told.count('<div class="meters">') == 3, "nano's, one that two models share, one of the third"
    assert "<span>Step-Video T2V, Step-Video T2V Turbo</span>" in told and "<span>Step-Video TI2V</span>" in told
    sent = [
        compose(GenerationSettings(name, "a red ball").resolve(fake.models[name]), fake.models[name], fake.moves)
        for name in ("nano", "step-video-t2v", "step-video-ti2v")
    ]
    assert [f"{len(text.positive) + 2} / 320" in told for text in sent] == [True] * 3
