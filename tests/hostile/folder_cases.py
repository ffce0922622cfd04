"""Hostile model folders: each harms a copy of a sound tiny folder, and must be refused in a sentence.

What a person could meet (a cut download, a Git-LFS pointer) stands beside what only malice makes.
"""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from tests.hostile.harms import (
    CONFIGS,
    LFS,
    OPTIONS,
    SPM,
    VOCAB,
    WEIGHTS,
    Call,
    Case,
    Harm,
    as_bin,
    bytearray_of_10_gb,
    change,
    compressed,
    cut,
    entry,
    field,
    in_zip,
    instead,
    link,
    other_part,
    pickled,
    replaced,
    sparse,
    tensors,
    words,
    write,
)

DEEP = b"[" * 100_000 + b"]" * 100_000
DEEP_OBJECT = b'{"a":' + DEEP + b"}"
LISTS = struct.pack("<Q", 15 << 20) + b"[" + b"[]," * (5 << 20)
INNER_LISTS = struct.pack("<Q", 15 << 20) + (b'{"a":[' + b"[]," * (5 << 20))[: (15 << 20) - 4] + b"[]]}"
MANY_KEYS = b'{"weight_map": {' + b",".join(b'"k%d": "model.safetensors"' % n for n in range(600_000)) + b"}}"
NO_FILE = "is no regular file|is missing|has no weights|Too many levels"
Row = tuple[str, Harm, str]


def cases(component: str, prefix: str, *rows: Row) -> list[Case]:
    return [Case(f"{prefix}: {name}", component, harm, says) for name, harm, says in rows]


def of_config(component: str) -> list[Case]:
    """Contents that are no config, and things that are no file in its place."""
    path = CONFIGS[component]
    nothing = b'{"a": 1}' if component != "vae" else b'{"z_channels": null}'
    return cases(
        component,
        f"{component} config",
        ("empty", write(path, b""), "no readable json"),
        ("cut", write(path, b'{"num_layers": 4, "hidd'), "no readable json"),
        ("a list", write(path, b"[]"), "no readable json .*holds no object"),
        ("a number", write(path, b"17"), "holds no object"),
        ("a Git-LFS pointer", write(path, LFS), "Git-LFS pointer"),
        ("not text", write(path, bytes(range(256))), "no readable json"),
        ("100,000 levels", write(path, DEEP), "no readable json"),
        ("200 levels", write(path, b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}"), "more than 100 levels"),
        ("17 MB", write(path, b'{"a": "' + b"x" * (17 << 20) + b'"}'), "more than 16 MB"),
        ("a number of 5,000 digits", write(path, b'{"num_layers": ' + b"9" * 5000 + b"}"), "no readable json"),
        ("other fields alone", write(path, nothing), "describes no"),
        ("a pipe", instead(path, os.mkfifo), NO_FILE),
        ("/dev/zero", instead(path, link("/dev/zero")), NO_FILE),
        ("/dev/urandom", instead(path, link("/dev/urandom")), NO_FILE),
        ("a folder", instead(path, Path.mkdir), NO_FILE),
        ("a link to itself", instead(path, link("config.json")), NO_FILE),
    )


BAD_SIZES: tuple[Any, ...] = (10**9, 0, -1, 1.5, True, None, "x", [], {}, 2**63, "9" * 300, float("nan"), float("inf"))
SIZES = {
    "transformer": ("num_layers", "num_attention_heads", "attention_head_dim", "in_channels", "out_channels"),
    "step_llm": ("num_layers", "hidden_size", "num_attention_heads", "num_attention_groups", "padded_vocab_size"),
    "clip": ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings"),
    "vae": ("num_res_blocks", "z_channels", "norm_groups"),
}
EPSILONS = {"transformer": "norm_eps", "step_llm": "layernorm_epsilon", "clip": "layer_norm_eps"}
ODD_VALUES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("transformer", {"caption_channels": 3}),
    ("transformer", {"caption_channels": [64, 32, 1]}),
    ("transformer", {"caption_channels": {"0": 64, "1": 32}}),
    ("transformer", {"use_additional_conditions": "yes"}),
    ("transformer", {"patch_size": 2}),
    ("transformer", {"attention_head_dim": 12}),
    ("transformer", {"num_attention_heads": 2**20, "attention_head_dim": 2**20}),
    ("step_llm", {"num_attention_heads": -2, "num_attention_groups": -1}),
    ("step_llm", {"num_attention_heads": 3}),
    ("clip", {"hidden_act": "os.system"}),
    ("clip", {"hidden_act": ["gelu"]}),
    ("clip", {"is_decoder": True}),
    ("clip", {"model_type": "gpt2"}),
    ("clip", {"pad_token_id": 10**9}),
    ("clip", {"num_attention_heads": 3}),
    ("vae", {"encoder": 3}),
    ("vae", {"decoder": {"ch": 8}}),
    ("vae", {"decoder": {"ch": 8, "ch_mult": [1, 2]}}),
    ("vae", {"decoder": {"ch": 2**20, "ch_mult": [2**20] * 4}}),
    ("vae", {"encoder": {"ch": 8, "ch_mult": [1] * 1000}}),
    ("vae", {"version": 1}),
)
ANOTHER_MODEL: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("transformer", {"num_layers": 500}, "lacks"),
    ("step_llm", {"num_layers": 500}, "lacks"),
    ("clip", {"num_hidden_layers": 500}, "lacks"),
    ("step_llm", {"ffn_hidden_size": 32}, "has shape"),
    ("clip", {"intermediate_size": 4096}, "has shape"),
)


def of_values() -> list[Case]:
    """Values of a config that no network has, or another one than the weights are of."""
    odd = [(part, {key: value}) for part, keys in SIZES.items() for key in keys for value in BAD_SIZES]
    odd += [(part, {key: value}) for part, key in EPSILONS.items() for value in (0, -1, 2, "1e-5", None, True)]
    told = [(*pair, "describes no") for pair in (*odd, *ODD_VALUES)] + list(ANOTHER_MODEL)
    return [Case(f"{part} has {str(values)[:60]}", part, change(part, **values), says) for part, values, says in told]


def of_weights(component: str) -> list[Case]:
    """Files that are no weights, headers that lie, and tensors that no network has."""
    path = WEIGHTS[component]
    unknown = [("a name of 1 MB", entry(path, "x" * 2**20), "does not know")] if component != "clip" else []
    return cases(
        component,
        f"{component} weights",
        *unknown,
        ("empty", write(path, b""), "no safetensors file"),
        ("a Git-LFS pointer", write(path, LFS), "Git-LFS pointer"),
        ("cut", cut(path), "cut short"),
        ("a header of 2**63 bytes", write(path, struct.pack("<Q", 2**63) + bytes(99)), "no safetensors file"),
        ("a header that ends the file", write(path, struct.pack("<Q", 99) + bytes(9)), "cut short"),
        ("a deep header", write(path, struct.pack("<Q", len(DEEP_OBJECT)) + DEEP_OBJECT), "header"),
        ("a header of 16 MB of lists", write(path, LISTS), "header"),
        ("a list as header", write(path, struct.pack("<Q", 2) + b"[]"), "header"),
        ("1 TB of zeros", instead(path, sparse(1 << 40)), "header"),
        ("a pipe", instead(path, os.mkfifo), NO_FILE),
        ("/dev/zero", instead(path, link("/dev/zero")), NO_FILE),
        ("a folder", instead(path, Path.mkdir), NO_FILE),
        ("a link to nothing", instead(path, link("/nowhere/at/all")), NO_FILE),
        ("trailing bytes", lambda folder: (folder / path).open("ab").write(b"rest"), "its header describes"),
        ("a lie about the place", field(path, data_offsets=[0, 1 << 40]), "header"),
        ("an unknown dtype", field(path, dtype="F3"), "header"),
        ("a shape of words", field(path, shape=["x"]), "header"),
        ("a shape of 3,000 numbers", field(path, shape=[2**61] * 3000), "header"),
        ("fields missing", field(path), "header"),
        ("a tensor over another", entry(path, "again", shape=[1], data_offsets=[0, 4]), "overlap"),
        ("an int8 tensor", tensors(path, lambda found: found.update({min(found): torch.zeros(3, dtype=torch.int8)})),
         "lacks|has shape"),
    )  # fmt: skip


def of_index() -> list[Case]:
    """Indexes of shards."""
    contents = (
        ("empty", b"", "no readable json"),
        ("no map", b"{}", "no weight_map"),
        ("a list of names", b'{"weight_map": ["a"]}', "no weight_map"),
        ("numbers as names", b'{"weight_map": {"a": 3}}', "no weight_map"),
        ("outside", b'{"weight_map": {"a": "../../x.safetensors"}}', "no file beside it"),
        ("absolute", b'{"weight_map": {"a": "/dev/zero"}}', "no file beside it"),
        ("backslashes", b'{"weight_map": {"a": "..\\\\x"}}', "no file beside it"),
        ("a zero byte", b'{"weight_map": {"a": "x\\u0000y"}}', "no file beside it"),
        ("half a character", b'{"weight_map": {"a": "\\ud800"}}', "not there: [?]"),
        ("a terminal escape", b'{"weight_map": {"a": "\\u001b[2J"}}', "not there:  .2J"),
        ("a long name", b'{"weight_map": {"a": "' + b"x" * 5000 + b'"}}', "no file beside it"),
        ("its own name", b'{"weight_map": {"a": "model.safetensors.index.json"}}', "PyTorch file|cut short"),
        ("600,000 keys", MANY_KEYS, "more than 16 MB|not in their files"),
        ("other keys", b'{"weight_map": {"a": "model.safetensors"}}', "not in their files"),
    )
    path = "step_llm/model.safetensors.index.json"
    return cases("step_llm", "index", *((name, write(path, data), says) for name, data, says in contents))


def of_pickles() -> list[Case]:
    """CLIP's public file is a pickle."""
    far_memo, doubling = b"\x80\x02}r\xff\xff\xff\x7f.", b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b"}h\x00K\x01s."
    contents = (
        ("runs a program", pickle.dumps({"bert.x": Call()}, 2), "more than tensors"),
        ("10 GB of bytes", bytearray_of_10_gb(), "more than tensors"),
        ("a class", pickle.dumps(io.BytesIO, 2), "more than tensors"),
        ("a list", pickle.dumps([1, 2], 2), "more than tensors"),
        ("numbers as names", pickle.dumps({1: 2}, 2), "more than tensors"),
        ("nothing", b"", "cannot be read"),
        ("a far memo", far_memo, "lacks"),
        ("too little on the stack", b"\x80\x02R.", "cannot be read"),
        ("a million marks", b"\x80\x02" + b"(" * 1_000_000 + b".", "more than tensors"),
        ("2 MB of instructions", b"\x80\x02" + b"N0" * (1 << 20) + b"}.", "at most 1,048,576"),
        ("a key that takes long to hash", doubling, "more than tensors"),
    )
    return cases(
        "clip",
        "pickle",
        *((name, pickled(lambda _, data=data: data), says) for name, data, says in contents),
        ("half of it", pickled(lambda data: data[: len(data) // 2]), "cannot be read"),
        ("another place", pickled(lambda data: data.replace(b"\x01\x00\x00\x000", b"\x01\x00\x00\x00z")), "has no"),
        ("an empty file", as_bin(lambda path: path.write_bytes(b"")), "cut short or no PyTorch file"),
        ("a cut file", as_bin(lambda path: os.truncate(path, path.stat().st_size - 99)), "cut short"),
        ("no zip", as_bin(lambda path: path.write_bytes(pickle.dumps({"a": 1}))), "no PyTorch file"),
        ("no description", as_bin(lambda path: zipfile.ZipFile(path, "w").close()), "more than tensors"),
        ("compressed", as_bin(compressed), "is compressed"),
        ("100,000 entries", as_bin(in_zip(100_000)), "more than 16 MB"),
    )


def of_tokenizers() -> list[Case]:
    """Tokenizers that are none, and some that know no word."""
    marks = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
    many = "".join(f"\n{number:x}" for number in range(500_000))
    return cases(
        "step_llm",
        "step tokenizer",
        ("empty", write(SPM, b""), "no tokenizer .*empty"),
        ("a Git-LFS pointer", write(SPM, LFS), "Git-LFS pointer"),
        ("cut", cut(SPM), "no tokenizer"),
        ("text", write(SPM, b"hello" * 99), "no tokenizer"),
        ("5 MB", write(SPM, bytes(5 << 20)), "no tokenizer"),
        ("absent", lambda folder: (folder / SPM).unlink(), "is missing"),
        ("a pipe", instead(SPM, os.mkfifo), "no tokenizer"),
        ("/dev/zero", instead(SPM, link("/dev/zero")), "no tokenizer"),
        ("a folder", instead(SPM, Path.mkdir), "no tokenizer"),
    ) + cases(
        "clip",
        "clip tokenizer",
        ("empty", write(VOCAB, b""), "no tokenizer .*empty"),
        ("a Git-LFS pointer", write(VOCAB, LFS), "Git-LFS pointer"),
        ("two words", write(VOCAB, b"a\nb\n"), r"lacks \[PAD\]"),
        ("no [UNK]", words(VOCAB, lambda text: text.replace("[UNK]", "[UNC]")), r"lacks \[UNK\]"),
        ("marks alone", write(VOCAB, marks), "knows no word"),
        ("not text", write(VOCAB, bytes(range(256))), "no tokenizer"),
        ("5 MB", write(VOCAB, b"word\n" * (1 << 20)), "no tokenizer.*4 MB"),
        ("half a million words", words(VOCAB, lambda text: text + many), "tokens, its tokenizer has"),
        ("/dev/zero", instead(VOCAB, link("/dev/zero")), "no tokenizer"),
        ("a pipe", instead(VOCAB, os.mkfifo), "no tokenizer"),
        ("options of a list", write(OPTIONS, b"[]"), "holds no object"),
        ("options of words", write(OPTIONS, b'{"do_lower_case": "yes"}'), "describes no tokenizer"),
        ("options absent", lambda folder: (folder / OPTIONS).unlink(), "is missing"),
    )


def of_parts() -> list[Case]:
    """Parts that are sound and do not belong together, or that are no folders of weights."""
    return [
        Case("a wider step_llm", "transformer", other_part("step_llm"), "takes texts of width"),
        Case("a vae of more channels", "transformer", other_part("vae"), "takes latents of channels"),
        Case("an empty folder in place of a part", "vae", replaced("vae", Path.mkdir), "has no weights"),
        Case("16 MB of lists in a header", "clip", write(WEIGHTS["clip"], INNER_LISTS), "header"),
        Case("a file in place of a part", "vae", replaced("vae", Path.touch), "is missing"),
    ]


CASES = [
    *(case for component in CONFIGS for case in of_config(component)),
    *of_values(),
    *(case for component in WEIGHTS for case in of_weights(component)),
    *of_index(),
    *of_pickles(),
    *of_tokenizers(),
    *of_parts(),
]
