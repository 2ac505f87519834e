import sys

from trow.cli import main

sys.exit(main())
