"""python -m components.export"""

import sys

from components.cli import main
from components.export.core import run

if __name__ == "__main__":
    sys.exit(main(run))
