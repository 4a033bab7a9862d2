"""What each of our packages executes, by its path, when Python looks in it for a command (`python -m traces`).

Python puts the folder that such a command is started in before its own library, so that `numpy.py`, or `argparse.py`,
beside a trace would be imported.  Here the folder is taken out again, unless it is this checkout, before anything else
is imported; all that is imported here Python has loaded by then.  `python -P` keeps the folder out from the start, also
from the few modules that Python needs to find a command (docs/SECURITY.md).  Ends with exit code 2 where one of our
names is another's package.
"""

import os
import sys
from importlib.util import find_spec

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
NUMBA_SETTINGS = ".numba_config.yaml"
"""Read from where a command is started (numba/core/config.py), such as the folder of the pickles of a cache."""
IN_A_WHEEL = os.path.isdir(os.path.join(ROOT, "diag", "traces"))
PACKAGES = ("diag",) if IN_A_WHEEL else ("diag", "probes", "traces")

# HDF5 loads no filter from a folder: TensorFlow names one of where a command is started, `disable`, as the place to
# search (tensorflow/python/keras/saving/save.py), and children inherit that.  "::" is HDF5's word for none at all.
os.environ["HDF5_PLUGIN_PRELOAD"] = "::"
is_safe = sys.flags.isolated or getattr(sys.flags, "safe_path", False)  # the latter since Python 3.11
here = os.path.realpath(sys.path[0])
if not is_safe and here == os.path.realpath(".") != ROOT:  # not again, if another of our packages was first
    del sys.path[0]
if os.path.exists(NUMBA_SETTINGS) and os.path.realpath(".") != ROOT:
    print(
        f"tf-lockstep: numba would take its settings from {NUMBA_SETTINGS} here, and they can name code; remove it, "
        "set NUMBA_ variables instead, or start in another folder",
        file=sys.stderr,
    )
    sys.exit(2)
for name in PACKAGES:
    found = find_spec(name)
    folders = list((found and found.submodule_search_locations) or ["nowhere"])
    if os.path.realpath(folders[0]) != os.path.join(ROOT, name):
        print(
            f"tf-lockstep: the package {name!r} that Python finds is {folders[0]}, of our name but not ours; expected "
            f"{ROOT}{os.sep}{name}; pip uninstall {name}, or install tf-lockstep in an environment of its own",
            file=sys.stderr,
        )
        sys.exit(2)
