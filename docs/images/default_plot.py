"""Save what `silx view` shows first of a trace: `python docs/images/default_plot.py TRACE PICTURE.png`.

It needs no display, but silx and a Qt: `pip install "silx[full]" PySide6-Essentials hdf5plugin`.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import hdf5plugin  # noqa: F401  registers the filters the tensors are compressed with
from silx.app.view.Viewer import Viewer
from silx.gui import qt

SIZE = (1100, 600)
SECONDS = 5.0
"""Until the file is loaded, in a thread of silx's own, and drawn."""


def main(trace: str, picture: str) -> None:
    application = qt.QApplication([])
    with TemporaryDirectory() as folder:
        settings = qt.QSettings(str(Path(folder) / "settings.ini"), qt.QSettings.IniFormat)
        viewer = Viewer(parent=None, settings=settings)
        viewer.resize(*SIZE)
        viewer.show()
        viewer.appendFile(trace)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            application.processEvents()
            time.sleep(0.01)
        viewer.grab().save(picture)
        viewer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
