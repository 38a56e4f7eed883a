"""python -m components.train"""

import sys

from components.cli import main
from components.train.core import run

if __name__ == "__main__":
    sys.exit(main(run))
