"""``python -m latentscale`` is the command `latentscale`."""

from latentscale.cli.main import main

main()
