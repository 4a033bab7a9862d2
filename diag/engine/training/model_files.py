"""A `.keras` file, which can come from a stranger: it is looked at before Keras builds anything of it.

Its configuration names Python objects, and its weights are an HDF5 file.  Keras loads both with care (`safe_mode`), the
more the newer it is; here every name has to be that of one of Keras's own layers, losses and the like, and the weights
plain arrays, for every Keras that this program runs with.
"""

from __future__ import annotations

import io
import json
import math
import sys
import zipfile
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import h5py
import keras
from h5py import h5t

from diag.common.archives import refuse_unsafe
from diag.common.text import as_text
from diag.common.wording import size_text, type_and_message
from diag.errors import UserError
from traces.door.plain import Stored, datasets_of
from traces.hdf5.chunks import Unsound

MODEL_FLAG = "--model"
CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
MEMBERS = (CONFIG, WEIGHTS, METADATA)
ASSETS = "assets/"
LARGEST_CONFIG = 64 << 20
"""Bytes; that of EfficientNetV2L, of 1,031 layers, is of 1 MB."""
PLACES = (
    "keras.activations", "keras.constraints", "keras.initializers", "keras.losses", "keras.metrics", "keras.ops",
    "keras.optimizers", "keras.regularizers",
)  # fmt: skip
"""Where the functions are that a configuration may name: those that keras.saving searches, and keras.ops."""
NO_FUNCTIONS = ("deserialize", "get", "serialize")
"""Of these modules, what makes objects rather than to compute."""
KINDS = (
    keras.Operation, keras.DTypePolicy, keras.constraints.Constraint, keras.initializers.Initializer,
    keras.losses.Loss, keras.metrics.Metric, keras.optimizers.Optimizer, keras.quantizers.Quantizer,
    keras.optimizers.schedules.LearningRateSchedule, keras.random.SeedGenerator, keras.regularizers.Regularizer,
)  # fmt: skip
"""Of the objects that a configuration may name; layers and models are operations."""
DATA = ("__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__")
"""What Keras writes of values that are no objects."""
CODE = {
    "Lambda": "Python code",
    "__lambda__": "Python code",
    "FlaxLayer": "Python code",
    "JaxLayer": "Python code",
    "TFSMLayer": "a SavedModel elsewhere",
    "TorchModuleWrapper": "a pickle",
}
"""Keras's own that hold or load what is none of Keras's, by class."""
NUMBERS = (h5t.INTEGER, h5t.FLOAT, h5t.ENUM)
_OWN = (
    "give FILE.py:FUNCTION that loads it, or, if you trust whoever made it: --trust runs its code, with all that you "
    "may do on this machine"
)
_OLDER = "it is in Keras's older form, which can hold Python code and is read by functions of your own only"


def read_model_file(path: Path, is_trusted: bool, flag: str = MODEL_FLAG) -> Any:
    """What Keras makes of a `.keras` file.

    is_trusted: whatever code its configuration names is run.  flag: what named the file, for messages.

    Raises:
        UserError: one line; the archive, the configuration or the weights are not as Keras writes them, or name or
            hold code that is not Keras's.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            refuse_unsafe(archive, path.stat().st_size, is_trusted)
            _refuse_other_members(archive.namelist())
            _refuse_keras_2(archive)
            config = _config_of(archive)
            code = list(_code_in(config))
            if code and not is_trusted:
                raise UserError(f"it holds {code[0]}; {_OWN}")
            _refuse_unsound_weights(archive.read(WEIGHTS))
        for each in code:
            print(f"note: --trust runs what {path} holds: {each}", file=sys.stderr)
        return keras.models.load_model(path, safe_mode=not is_trusted)
    except UserError as error:
        raise UserError(f"{flag} {path}: {error}") from error
    except Exception as error:
        raise UserError(
            f"{flag} {path} cannot be read as a Keras 3 model: {type_and_message(error)}; if it holds classes or "
            "functions of your own, give FILE.py:FUNCTION that loads it"
        ) from error


def refuse_other_forms(path: Path, flag: str = MODEL_FLAG) -> None:
    """Raises UserError for what Keras saved in another form than `.keras`, with what to do: it may hold code."""
    if path.name.endswith(".weights.h5"):
        way = "it holds weights and no model; give FILE.py:FUNCTION that makes the model and calls its load_weights"
    elif path.suffix in (".h5", ".hdf5") and path.is_file():
        way = f"{_OLDER}; give FILE.py:FUNCTION that returns keras.models.load_model({str(path)!r})"
    elif (path / "keras_metadata.pb").is_file():
        way = (
            "it is a SavedModel of Keras 2, which Keras 3 does not train; save it once more where it was made, "
            "tf_keras.models.load_model(...).save('model.h5'), and give FILE.py:FUNCTION that returns "
            "keras.models.load_model('model.h5')"
        )
    elif (path / "saved_model.pb").is_file():
        way = (
            "it is a SavedModel, which has the graph and no model that Keras could train; give the .keras file of the "
            "same model, or FILE.py:FUNCTION that makes it"
        )
    else:
        return
    raise UserError(f"{flag} {path}: {way}")


def _refuse_keras_2(archive: zipfile.ZipFile) -> None:
    """Keras 3 reads the weights of some of its files, and leaves the optimizer's state out without an error."""
    version = json.loads(archive.read(METADATA)).get("keras_version") if METADATA in archive.namelist() else None
    if str(version).startswith("2."):
        raise UserError(
            f"it was saved by Keras {as_text(version)}, of which Keras 3 reads no optimizer and not every layer; give "
            "FILE.py:FUNCTION that returns keras.models.load_model(...) of it, once you know what that gives"
        )


def _refuse_other_members(names: list[str]) -> None:
    others = [name for name in names if name not in MEMBERS and not name.startswith(ASSETS)]
    missing = [name for name in (CONFIG, WEIGHTS) if name not in names]
    if others or missing:
        what = f"it holds {others[0]}" if others else f"there is no {missing[0]} in it"
        raise UserError(f"it is no Keras 3 model: {what}; expected {', '.join(MEMBERS)} and {ASSETS}")


# -- the configuration -----------------------------------------------------------------------------


def _config_of(archive: zipfile.ZipFile) -> Any:
    size = archive.getinfo(CONFIG).file_size
    if size > LARGEST_CONFIG:
        raise UserError(f"its {CONFIG} has {size_text(size)}; expected at most {size_text(LARGEST_CONFIG)}")
    return json.loads(archive.read(CONFIG))


def _code_in(config: Any) -> Iterator[str]:
    """In words, every object of a configuration that is none of Keras's own, or brings code or files."""
    for each in _objects_in(config):
        held = _held_by(each)
        if held is not None:
            of = each["config"].get("name") if isinstance(each.get("config"), dict) else None
            yield f"{held} in {as_text(of)}" if isinstance(of, str) else held


def _objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """All maps within that name a class, however deep."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "class_name" in one:
                yield one
            waiting += reversed(one.values())
        elif isinstance(one, list):
            waiting += reversed(one)


def _held_by(described: dict[str, Any]) -> str | None:
    """What of its own an object brings, in words; None for one of Keras's that brings nothing."""
    name, module, config = described["class_name"], described.get("module"), described.get("config")
    if name in DATA:
        return None
    if not isinstance(name, str):
        return "an object without a name"
    if name in CODE:
        return f"{CODE[name]} ({name})"
    if name == "function":
        return None if _is_function(module, config) else f"the function {as_text(config)}, which is not Keras's"
    if not _is_class(module, name):
        return f"the class {as_text(module)}.{as_text(name)}, which is not Keras's"
    if isinstance(config, dict) and isinstance(config.get("vocabulary"), str):
        return f"the name of a file, {as_text(config['vocabulary'])},"
    return None


def _is_function(module: Any, name: Any) -> bool:
    places = [place for place in PLACES if module in ("builtins", place)]
    found = [_named(place, name) for place in places if name not in NO_FUNCTIONS]
    return any(callable(each) and not isinstance(each, type) for each in found)


def _is_class(module: Any, name: str) -> bool:
    """Whether it is one of the kinds; a configuration of before Keras 3 names no module."""
    if module is None:
        return any(_is_kind(_named(place, name)) for place in ("keras", "keras.layers", *PLACES))
    return isinstance(module, str) and _is_kind(_named(module, name))


def _is_kind(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, KINDS) and found.__module__.startswith("keras.")


def _named(module: str, name: Any) -> Any:
    """What Keras calls so; None for what it does not, or keeps to itself."""
    first, *rest = [*module.split("."), name]
    if first != "keras" or not all(isinstance(part, str) and not part.startswith("_") for part in rest):
        return None
    return reduce(lambda found, part: getattr(found, part, None), rest, keras)


# -- the weights -----------------------------------------------------------------------------------


def _refuse_unsound_weights(content: bytes) -> None:
    """That the weights are plain arrays of numbers, and lead to no other file."""
    try:
        with h5py.File(io.BytesIO(content)) as file:
            for name, stored in datasets_of(file, len(content)).items():
                _refuse_other_array(name, stored)
    except (Unsound, OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"its {WEIGHTS} is no file of weights: {type_and_message(error)}; save the model again"
        ) from error


def _refuse_other_array(name: str, stored: Stored) -> None:
    if stored.chunks is not None or not stored.is_whole:
        claimed = size_text(math.prod(stored.shape) * stored.kind.get_size())
        raise Unsound(f"{name} claims {claimed} and {size_text(stored.num_bytes)} of it are stored in one piece")
    if stored.kind.get_class() not in NUMBERS:
        raise Unsound(f"{name} holds no numbers")
