"""``python -m quell`` is ``quell``."""

from quell.cli import main

main()
