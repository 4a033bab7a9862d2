"""The HDF5 trace: schema, writer, reader.  No TensorFlow here."""

import sys

if __name__ == "traces" and sys.argv[:1] == ["-m"]:  # as in diag/__init__.py, unless it was loaded, as in a wheel
    with open(f"{__path__[0]}/../diag/started.py", encoding="utf-8") as file:
        exec(file.read(), {"__file__": file.name})
import diag as diag  # first of all: from here on Ctrl-C ends python -m traces in one line
