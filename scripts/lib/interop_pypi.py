"""Where the modules of PyPI are that scripts/lib/pypi.sh installed."""

import os
import site

# Behind whatever else this Python has.
site.addsitedir(os.environ["PYPI"])
