"""python -m components.promote"""

import sys

from components.cli import main
from components.promote.core import run

if __name__ == "__main__":
    sys.exit(main(run))
