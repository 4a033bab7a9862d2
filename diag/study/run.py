"""What a study runs in processes of its own, by JSON values.  No TensorFlow before it begins."""

from __future__ import annotations

from typing import Any

from diag.study.run_request import RunRequest


def train_one(**arguments: Any) -> dict[str, Any]:
    """Train; gives its curves by name, lists with one number an epoch, `seconds` of each, and what was trained.

    Raises UserError for what cannot be trained, or cannot be had at the place.
    """
    from diag.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    from diag.study.training import trained

    return trained(RunRequest.of(arguments))


def default_candidate() -> dict[str, str]:
    """The candidate that `python -m diag.lockstep` takes here by itself: `place` as it is written, what it `says`."""
    from diag.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    from diag.lockstep_run import default_candidate as of_lockstep

    place, notices = of_lockstep()
    says = " ".join(notice.text for notice in notices) or f"the candidate is {place}, the first GPU here"
    return {"place": str(place).removesuffix(f"/{place.execution}"), "says": says}
