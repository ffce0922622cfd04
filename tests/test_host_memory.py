"""RAM of the machine and of control groups of both versions."""

from pathlib import Path

from studio import host_memory
from studio.host_memory import GroupMemory, control_groups, free_ram, ram_in_use


def write_group(folder: Path, **files: int | str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"memory.{name}").write_text(f"{content}".strip() + "\n")


def stat(inactive: int, active: int, prefix: str = "") -> str:
    return f"anon 77\n{prefix}inactive_file {inactive}\n{prefix}active_file {active}\n"


def test_every_group_up_to_the_root_counts_without_its_page_cache(tmp_path):
    own = tmp_path / "own"
    own.write_text("0::/outer/inner\n")
    root = tmp_path / "groups"
    write_group(root / "outer", max=1000, current=700, stat=stat(100, 50))
    write_group(root / "outer/inner", max="max", current=600, stat=stat(0, 0))
    assert control_groups(own, root) == [GroupMemory(1000, 700 - 150)]


def test_version_one_groups(tmp_path):
    own = tmp_path / "own"
    own.write_text("9:cpu:/x\n4:memory:/job\n")
    write_group(
        tmp_path / "memory/job", limit_in_bytes=2000, usage_in_bytes=500, stat=stat(1, 2) + stat(30, 20, "total_")
    )
    assert control_groups(own, tmp_path) == [GroupMemory(2000, 500 - 50)]


def test_groups_that_cannot_be_read_limit_nothing(tmp_path):
    own = tmp_path / "own"
    write_group(tmp_path / "damaged", max="many", current=1, stat="")
    for text in ("", "0::/gone\n", "9:cpu:/x\n", "0::/damaged\n"):
        own.write_text(text)
        assert control_groups(own, tmp_path) == [], text
    assert control_groups(tmp_path / "absent", tmp_path) == []


def test_the_tightest_limit_decides_what_is_free_and_in_use(monkeypatch):
    groups: list[GroupMemory] = []
    monkeypatch.setattr(host_memory, "control_groups", lambda: groups)
    used, total = ram_in_use()
    assert 0 < used < total and 0 < free_ram() < total
    groups += [GroupMemory(5000, 1000), GroupMemory(3000, 2000)]
    assert free_ram() == 1000 and ram_in_use() == (2000, 3000)
    groups.append(GroupMemory(100, 200))  # lowered below what was in use
    assert free_ram() == 0 and ram_in_use() == (200, 100)
