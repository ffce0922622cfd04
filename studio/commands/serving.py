"""How a page of this program is reached, from the command line's flags."""

import argparse

from studio.commands.starting import EVERY_ADDRESS
from studio.commands.streams import forgiving
from studio.service.rights import NAMES
from studio.ui.server import ServeOptions, parse_login


def serve_options(options: argparse.Namespace) -> ServeOptions:
    """The flags of `page` as options. Raises InputError for a login that is none."""
    return ServeOptions(
        host=EVERY_ADDRESS if options.listen else None,
        port=options.port,
        share=options.share,
        auth=(parse_login(options.auth),) if options.auth else (),
        auth_file=options.auth_file,
        allowed_hosts=tuple(options.allowed_host or ()),
        guests=NAMES[vars(options).get("guests", "all")],
        inbrowser=options.inbrowser,
        say=_say,
    )


def _say(sentence: str) -> None:
    with forgiving():
        print(sentence, flush=True)
