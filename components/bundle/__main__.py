"""python -m components.bundle"""

import sys

from components.bundle.core import run
from components.cli import main

if __name__ == "__main__":
    sys.exit(main(run))
