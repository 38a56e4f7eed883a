"""python -m components.register"""

import sys

from components.cli import main
from components.register.core import run

if __name__ == "__main__":
    sys.exit(main(run))
