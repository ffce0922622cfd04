"""A program of its own that speaks one text with eSpeak NG; robot.py runs it. It uses nothing else of this repository.

eSpeak NG is licensed under GPL-3, this program under MIT: so the library is loaded in this process alone, and text and
samples go through its pipes. stdin: a json object {"text": ..., "voice": "en", "variant": ""}. stdout: a json line
{"rate": Hz} and the samples, int16 little-endian mono. Exit codes: 0 spoken, 3 eSpeak NG is not installed or does not
start, 4 it has no such voice. eSpeak answers 0 for some languages and is silent: the caller checks the samples.
"""

import ctypes
import json
import sys
from typing import Any

SYNCHRONOUS, UTF8 = 2, 1  # enum espeak_AUDIO_OUTPUT, flags of espeak_Synth, in speak_lib.h
DO_NOT_EXIT = 0x8000
NOT_THERE, NO_VOICE = 3, 4


def load() -> tuple[Any, int]:
    """The library and its sample rate. Raises OSError where it is missing or does not start."""
    try:
        import espeakng_loader
    except ImportError:
        raise OSError("espeakng-loader is not installed") from None
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), DO_NOT_EXIT)
    if rate <= 0:
        raise OSError("eSpeak NG did not start")
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # breath is noise: the same text gives the same samples
    return library, rate


def speak(library: Any, text: str) -> bytes:
    """The text's samples."""
    spoken = bytearray()
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

    def take(samples: int | None, count: int, events: int | None) -> int:
        if samples and count > 0:
            spoken.extend(ctypes.string_at(samples, 2 * count))
        return 0

    callback = kind(take)
    library.espeak_SetSynthCallback(callback)
    data = text.replace("\0", " ").encode("utf-8") + b"\0"
    library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 1, 0, UTF8, None, None)
    library.espeak_Synchronize()
    return bytes(spoken)


def main() -> int:
    """One request from stdin to stdout."""
    asked = json.load(sys.stdin)
    try:
        library, rate = load()
    except (OSError, RuntimeError) as error:
        sys.stderr.write(str(error))
        return NOT_THERE
    if library.espeak_SetVoiceByName(f"{asked['voice']}{asked['variant']}".encode()) != 0:
        return NO_VOICE
    samples = speak(library, asked["text"])
    sys.stdout.buffer.write(json.dumps({"rate": rate}).encode() + b"\n" + samples)
    return 0


if __name__ == "__main__":
    sys.exit(main())
