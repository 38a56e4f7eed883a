"""python -m components.deploy"""

import sys

from components.cli import main
from components.deploy.core import run

if __name__ == "__main__":
    sys.exit(main(run))
