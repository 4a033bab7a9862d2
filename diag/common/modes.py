"""What is done with each batch, train or predict, and what of it is called otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRAIN, PREDICT = "train", "predict"
MODES = (TRAIN, PREDICT)

FIGURE = {TRAIN: "loss", PREDICT: "mean of the outputs"}
"""The one number of each step that curves show."""

STEP = {TRAIN: "training step", PREDICT: "prediction step"}


def figure_key(mode: str) -> str:
    """What curves show, as the key of a JSON object or the name of a column."""
    return FIGURE[mode].replace(" ", "_")


def figure_in(settings: Mapping[str, Any]) -> str:
    """What curves show, by the settings that a trace keeps; what was written before there were modes trained."""
    return FIGURE[mode_in(settings)]


def mode_in(settings: Mapping[str, Any]) -> str:
    """TRAIN or PREDICT."""
    mode = settings.get("mode")
    return mode if mode in MODES else TRAIN
