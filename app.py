"""Step-Video Studio: `python app.py` opens the page; `python app.py --help` names the commands."""

import sys

from studio.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
