"""`python -m studio` is `python app.py`."""

import sys

from studio.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
