"""The compiled loops where nothing can be kept of them."""

from __future__ import annotations

import subprocess
import sys


def test_they_are_compiled_anew_where_no_folder_for_them_can_be_written():
    program = (
        "import numpy, numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "from diag.numerics.loops import largest_of\n"
        "print(largest_of(numpy.array([1.5, 4.0, 0.25])))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("4.0\n", "")
