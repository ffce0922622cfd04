"""`chat`: a language model expands a prompt or writes a voice-over's lines; they are shown, and nothing is done."""

import argparse
import shlex
import sys

from studio.audio.clip import read_clip
from studio.chat import Chat


def run(options: argparse.Namespace) -> int:
    """Print the prompt, or the lines as flags of `sound` that can be pasted."""
    chat = Chat(options.chat_url, options.chat_model)
    if options.clip is None:
        print(chat.expand(options.text))
        return 0
    lines, other = chat.lines(options.text, read_clip(options.clip).seconds)
    print(" ".join(f"{shlex.quote(f'--say={text}')} --at {second:g}" for second, text in lines))
    for row in other:
        print(f"Not a line: {row}", file=sys.stderr)
    return 0
