"""python -m components.batch_score"""

import sys

from components.batch_score.core import run
from components.cli import main

if __name__ == "__main__":
    sys.exit(main(run))
