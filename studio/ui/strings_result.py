"""Words of the page about results: what is done with them, and what they come from; strings.py has all others."""

RESULT_STRINGS: dict[str, tuple[str, str]] = {
    "restore.inside": ("{size}, from inside the file", "{size}，取自文件内部"),
}
