"""``python -m varifocal``, which ``torchrun`` needs."""

import sys

from varifocal.cli import main

sys.exit(main())
