"""python -m components.evaluate"""

import sys

from components.cli import main
from components.evaluate.core import run

if __name__ == "__main__":
    sys.exit(main(run))
