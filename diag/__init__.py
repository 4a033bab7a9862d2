import sys

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"]:  # Python looks for a command in this package (its documentation of sys.argv)
    with open(f"{__path__[0]}/started.py", encoding="utf-8") as file:
        exec(file.read(), {"__file__": file.name})
    from diag.common.stopping import end_at_once

    end_at_once()
