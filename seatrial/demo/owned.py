"""python -m seatrial.demo.owned PID COMMAND...: runs the command for as long as process PID lives.

The receiver's runs outlive the receiver on purpose; the demo's must not outlive the demo.
"""

from __future__ import annotations

import subprocess
import sys
import time

from serving.local.identity import identity_of


def main(arguments: list[str]) -> int:
    owner = identity_of(int(arguments[0]))
    child = subprocess.Popen(arguments[1:])
    while child.poll() is None:
        if owner is None or not owner.alive:
            child.kill()
        time.sleep(0.2)
    return child.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
