"""python -m components.ingest"""

import sys

from components.cli import main
from components.ingest.core import run

if __name__ == "__main__":
    sys.exit(main(run))
