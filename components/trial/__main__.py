"""python -m components.trial"""

import sys

from components.cli import main
from components.trial.core import run

if __name__ == "__main__":
    sys.exit(main(run))
