"""``python -m nsinspect``."""

from nsinspect.cli import main

main()
