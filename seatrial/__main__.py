"""`python -m seatrial` is the console script."""

from seatrial.cli import main

main()
