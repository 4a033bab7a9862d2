"""A file for each failure that comes with a program."""

from __future__ import annotations

import re
from pathlib import Path

from probes.frame.device_report import DeviceReport


def write_reproducers(card: DeviceReport, folder: Path) -> list[Path]:
    """One Python file for each failure that has a program; returns their paths.  Makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for measurement in card.failures:
        if measurement.reproducer:
            name = re.sub(r"[^A-Za-z0-9]+", "_", " ".join(measurement.key)).strip("_").lower()
            path = folder / f"{name}.py"
            if path in written:  # two names may differ in signs alone
                path = folder / f"{name}_{len(written)}.py"
            path.write_text(measurement.reproducer, encoding="utf-8")
            written.append(path)
    return written
