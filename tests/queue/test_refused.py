"""A card whose machine differs makes nothing, and the page says in what."""

from pathlib import Path
from types import SimpleNamespace

from studio.queue.jobs import JobQueue
from studio.queue.refused import FILE, differences, read_refused, write_refused
from studio.service.workers import worker_views
from studio.ui.worker_lines import worker_lines

HEAD = {"version": "1.2", "nano": "aa", "step-video-t2v": "bb"}
CARD = "cluster/10.0.0.7-abc123/0"


def test_another_version_another_model_and_one_that_is_missing_are_told_apart() -> None:
    cases = {
        "version": {"version": "1.3"},
        "nano": {"nano": "ab"},
        "nano,version": {"nano": "ab", "version": "1.1"},
        "step-video-ti2v": {"step-video-ti2v": "cc"},
    }
    for named, changed in cases.items():
        assert ",".join(differences(HEAD | changed, HEAD)) == named
    assert differences({"version": "1.2", "nano": "aa"}, HEAD) == ["step-video-t2v"] and differences(HEAD, HEAD) == []


def test_the_page_names_the_card_and_in_what_it_differs(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "queue")
    worker = SimpleNamespace(name="cluster", pid=7, trouble=None)
    supervisor = SimpleNamespace(workers=[worker])
    assert read_refused(queue.folder) == {} and len(worker_views(queue, supervisor)) == 1
    write_refused(queue.folder, {CARD: "nano, version"})
    views = worker_views(queue, supervisor)
    assert [view.name for view in views] == ["cluster", CARD] and views[1].job is None
    english, chinese = (worker_lines(views, language) for language in ("en", "zh"))
    assert f"{CARD} makes no videos here, since it differs in: nano, version." in english
    assert "以下内容不同：nano, version" in chinese
    others = SimpleNamespace(workers=[SimpleNamespace(name="cuda:0", pid=7, trouble=None)])
    assert len(worker_views(queue, others)) == 1, "of a cluster's worker alone"
    worker.pid = None
    assert len(worker_views(queue, supervisor)) == 1, "a worker that has gone refuses nobody"
    worker.pid = 7
    write_refused(queue.folder, {})
    assert len(worker_views(queue, supervisor)) == 1
    for broken in ("", "[]", '{"cluster/x": 5}', '{"cluster/x": '):
        (queue.folder / FILE).write_text(broken)
        assert len(worker_views(queue, supervisor)) == 1, broken
