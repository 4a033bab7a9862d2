"""What a trace holds that its owner may not want to send: weights, data, the model, paths, the machine's name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from diag.common.modes import TRAIN, mode_in
from diag.common.wording import counted, ranges_of
from traces.inspector.reading import InspectedTrace

MOST_RANGES = 3
_PATH = re.compile(r"(?<![\w:/])(~|\.{1,2})?/[^/\s]|^[A-Za-z]:\\|[^\s/]/[^\s/].*\.(py|npz|keras|h5|csv)\b")
"""An absolute path, one from the home folder or of a drive, or a relative one to a file of the person's own."""
_HOST = ("host", "hostname", "node", "computer", "user", "username")


def personal_data(trace: InspectedTrace) -> str:
    """In a line, of everything that can be private, what is there and what is not."""
    lines = trace.source_lines().values()
    parts = [*_values(trace), f"{counted(len(lines), 'line')} of source code" if lines else "no source code"]
    documents = {
        "command": trace.command,
        "settings": trace.settings,
        "model": trace.model_config,
        "source lines": [line.file for line in lines],
        "report": trace.report(),
        **{f"environment of {lane}": trace.environment(lane) for lane in trace.layout.lanes},
    }
    with_paths = [name for name, document in documents.items() if any(map(_PATH.search, _texts(document)))]
    parts.append(f"paths of files ({', '.join(with_paths)})" if with_paths else "no paths of files")
    named = [name for name, document in documents.items() if any(key.lower() in _HOST for key in _keys(document))]
    parts.append(f"the name of the machine or its user ({', '.join(named)})" if named else "no name of the machine")
    return ", ".join(parts)


def _values(trace: InspectedTrace) -> Iterator[str]:
    states, batches = trace.snapshot_steps, sorted(trace.batch_steps)
    yield f"weights (before steps {ranges_of(states, MOST_RANGES)})" if states else "no weights"
    data = "training data" if mode_in(trace.settings) == TRAIN else "data to predict"
    yield f"{data} (batches of steps {ranges_of(batches, MOST_RANGES)})" if batches else f"no {data}"
    yield "the model's computation" if trace.programs or trace.model_config else "no model"


def _texts(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, Mapping):
        for value in document.values():
            yield from _texts(value)
    elif isinstance(document, list):
        for value in document:
            yield from _texts(value)


def _keys(document: Any) -> Iterator[str]:
    if isinstance(document, Mapping):
        for key, value in document.items():
            yield key
            yield from _keys(value)
    elif isinstance(document, list):
        for value in document:
            yield from _keys(value)
