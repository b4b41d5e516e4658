"""``python -m lisa`` is the same as ``lisa``."""

import sys

from lisa.cli import main

sys.exit(main())
