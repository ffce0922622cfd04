"""`download`: the files of a model that are needed, verified, each stored once however many models share it."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from models.layout import COMPONENTS, LAYOUT, SPEECH
from studio.checkpoints.download_record import DownloadRecord, read_download_record
from studio.checkpoints.hubs import Hub, HubFile, open_hub
from studio.checkpoints.inspect import inspect
from studio.config import ModelConfig, SpeechConfig
from studio.errors import InputError, StudioError
from studio.units import GB


def _wanted_names(components: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Patterns of what the studio reads of a public repository: what must be there, and what may.

    Not vae.safetensors (version 1), lib/ (a binary the studio does without), vocab_org.txt, pictures; of the model that
    speaks not its two onnx files, which read recordings, nor the vocoder for rap and humming.
    """
    required, optional = [], []
    for component in components:
        layout = LAYOUT[component]
        place = PurePosixPath(layout.folder)
        public = PurePosixPath(layout.weights[-1])  # shards have a number between stem and suffix
        required += [str(place / f"{public.stem}*{public.suffix}"), *layout.tokenizer]
        optional.append(str(place / f"{layout.weights[0]}.index.json"))
        (required if layout.config_required else optional).append(str(place / layout.config))
    return required, optional


CLIP_LICENCE = (
    "Licence: the repository says MIT, but the files under hunyuan_clip/ come from Tencent's HunyuanDiT, whose licence "
    "is tencent-hunyuan-community (https://github.com/Tencent/HunyuanDiT, LICENSE.txt). Read it before you use them."
)
SPEECH_LICENCE = (
    "Licence: Apache-2.0 by the repository's card. Speak with a person's voice only if that person agrees, and say "
    "that the voice is synthetic."
)
SPARE_BYTES = 64 << 20  # left free beside the files: indexes, records, the file system's own
HASH_BYTES = 8 << 20


def download(
    model: ModelConfig | SpeechConfig,
    source: str,
    to: Path,
    report: Callable[[str], None],
    revision: str | None = None,
    *,
    tokenizers_only: bool = False,
) -> None:
    """Fetch a model's files from "hf" or "modelscope" into the checkpoint folder `to`, resuming what was begun.

    revision: a commit, tag or branch of the repository; None: the one that the folder's record names, else the newest.
    tokenizers_only: what counts a prompt's tokens, about 2 MB; a folder that was not there is no whole model then.
    Files that another folder beside `to` has already, with the same checksum, are linked rather than fetched.
    Raises InputError for a model without a source, StudioError for a network, a checksum or a disk that fails, and for
    a listing that names a place outside the folder.
    """
    repo = model.sources.get(source)
    if repo is None:
        raise InputError("download_source", model=model.name, source=source)
    hub = open_hub(source)
    record = read_download_record(to) or DownloadRecord(whole=to.exists())
    known = record.revision if (record.source, record.repo) == (source, repo) else ""
    found, listed = hub.list(repo, revision or known or None)
    speaks = isinstance(model, SpeechConfig)
    components = SPEECH if speaks else COMPONENTS
    files = _needed(listed, repo, source, components)
    if tokenizers_only:
        tokenizers = {name for component in components for name in LAYOUT[component].tokenizer}
        files = [file for file in files if file.path in tokenizers]
    _make_folder(to)
    _check_places(files, to)
    record.source, record.repo, record.revision = source, repo, found
    if not tokenizers_only:
        record.total_bytes, record.whole = sum(file.size for file in files), False
    record.write(to)  # what the page tells of a download under way
    size = _gb(sum(file.size for file in files))
    report(f"{repo} on {source}, revision {found}: {len(files)} files, {size}, into {to}")
    if known and not revision:
        report("That is the revision this folder was fetched at; --revision main fetches the newest.")
    report(SPEECH_LICENCE if speaks else CLIP_LICENCE)

    missing = [file for file in files if not _is_here(file, to, record)]
    report(f"{len(files) - len(missing)} files are here and verified.")
    missing = [file for file in missing if not _link_from_sibling(file, to, record, report)]
    _check_space(missing, to, report)
    for number, file in enumerate(missing, 1):
        report(f"[{number}/{len(missing)}] {file.path}, {_gb(file.size)}")
        _fetch(hub, file, to, record)
    if tokenizers_only:
        return
    _check_result(to, report)
    record.whole = True
    record.write(to)


def _needed(listed: list[HubFile], repo: str, source: str, components: tuple[str, ...]) -> list[HubFile]:
    """The files to have, smallest first, so that a wrong repository shows early.

    Raises StudioError for a listing with any entry that no honest repository has: nothing of it is fetched then.
    """
    if odd := next((file for file in listed if not file.is_plain), None):
        raise StudioError("download_path", repo=repo, source=source, file=odd.path)
    required, optional = _wanted_names(components)
    wanted = [file for file in listed if any(_fits(file.path, name) for name in required + optional)]
    lacking = [name for name in required if not any(_fits(file.path, name) for file in wanted)]
    if lacking:
        raise StudioError("download_lacks", repo=repo, source=source, missing=", ".join(lacking))
    return sorted(wanted, key=lambda file: (file.size, file.path))


def _fits(path: str, pattern: str) -> bool:
    """Component by component: a star stands for no slash."""
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def _make_folder(to: Path) -> None:
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudioError("write_failed", file=to, reason=error.strerror or str(error)) from None


def _check_places(files: list[HubFile], to: Path) -> None:
    """Raise StudioError where a folder inside `to` is a link that leads out of it: nothing is written there.

    A link in place of a file is removed before anything is written, or replaced by the file; it is never followed.
    """
    for file in files:
        folder = (to / file.path).parent
        if not folder.resolve().is_relative_to(to.resolve()):
            raise StudioError("download_link", folder=folder, to=to, target=folder.resolve())


def _is_here(file: HubFile, to: Path, record: DownloadRecord) -> bool:
    """Whether the file is in place with the hub's checksum; a file with another one is removed."""
    path = to / file.path
    if not path.is_file():
        if path.is_symlink():  # to nothing: a file written through it would lie elsewhere
            path.unlink()
        return False
    if file.sha256 and record.checksum(to, file.path) == file.sha256:
        return True
    if path.stat().st_size == file.size and (sha256 := _verified(path, file)):
        record.note(to, file.path, sha256)
        return True
    path.unlink()
    return False


def _link_from_sibling(file: HubFile, to: Path, record: DownloadRecord, report: Callable[[str], None]) -> bool:
    """Take the file from another model's folder where that has the same content. Small files are fetched instead."""
    if not file.sha256 or file.size < HASH_BYTES:
        return False
    for folder in sorted(to.parent.iterdir()):
        other = folder / file.path
        if folder == to or not other.is_file() or other.stat().st_size != file.size:
            continue
        known = (read_download_record(folder) or DownloadRecord()).checksum(folder, file.path)
        if (known or _sha256(other)) == file.sha256:
            way = _share(other.resolve(), to / file.path)
            record.note(to, file.path, file.sha256)
            report(f"{file.path}, {_gb(file.size)}: {way} {folder.name}")
            return True
    return False


def _share(existing: Path, path: Path) -> str:
    """One content, two names: a hard link; else a symbolic link; else a copy. Says which."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for way, make in (("shared with", os.link), ("linked to", os.symlink), ("copied from", shutil.copyfile)):
        try:
            make(existing, path)
        except OSError as error:
            path.unlink(missing_ok=True)
            reason = error
        else:
            return way
    raise StudioError("write_failed", file=path, reason=reason.strerror)


def _check_space(files: list[HubFile], to: Path, report: Callable[[str], None]) -> None:
    started = sum(path.stat().st_size for path in to.rglob("*.incomplete"))
    need = max(sum(file.size for file in files) - started, 0) + SPARE_BYTES * bool(files)
    free = shutil.disk_usage(to).free
    report(f"To fetch: {len(files)} files, {_gb(need)}. Free: {_gb(free)}.")
    if need > free:
        raise StudioError("disk_full", folder=to, free_gb=free / GB, need_gb=need / GB)


def _fetch(hub: Hub, file: HubFile, to: Path, record: DownloadRecord) -> None:
    path = to / file.path
    for _ in range(2):  # wrong bytes may be a passing fault of the network; twice they are the hub's
        try:
            hub.fetch(record.repo, record.revision, file, to)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            free = shutil.disk_usage(to).free
            raise StudioError("disk_full", folder=to, free_gb=free / GB, need_gb=file.size / GB) from None
        if sha256 := _verified(path, file):
            record.note(to, file.path, sha256)
            return
        found = _sha256(path)
        path.unlink()
    promised = file.sha256 or f"git {file.git_sha1}"
    raise StudioError("download_checksum", file=file.path, found=found, promised=promised)


def _check_result(to: Path, report: Callable[[str], None]) -> None:
    result = inspect(to)
    for line in result.lines():
        report(line)
    if not result.ok:
        raise StudioError("checkpoint", reason=next(p for part in result.parts for p in part.problems))


def _verified(path: Path, file: HubFile) -> str | None:
    """The sha256 of a file if its content is what the hub lists, else None."""
    sha256 = _sha256(path)
    if file.sha256:
        return sha256 if sha256 == file.sha256 else None
    if file.git_sha1:  # git names a file by the SHA-1 of "blob", its length and its content
        content = path.read_bytes()
        own = hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
        return sha256 if own == file.git_sha1 else None
    return sha256 if path.stat().st_size == file.size else None


def _sha256(path: Path) -> str:
    digest, buffer = hashlib.sha256(), bytearray(HASH_BYTES)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def _gb(count: int) -> str:
    return f"{count / GB:.2f} GB" if count >= GB / 100 else f"{count / 2**20:.2f} MB"
