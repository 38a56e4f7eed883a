"""python -m components.validate"""

import sys

from components.cli import main
from components.validate.core import run

if __name__ == "__main__":
    sys.exit(main(run))
