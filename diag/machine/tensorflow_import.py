"""Importing TensorFlow without what it prints to stderr whatever the log level."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from diag.errors import UserError


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """What native code writes to file descriptor 2 is dropped; Python's exceptions still pass."""
    try:
        descriptor = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        yield
        return
    sys.stderr.flush()
    kept = os.dup(descriptor)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), descriptor)
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


def refuse_kernels_here(words: Sequence[str]) -> None:
    """That TensorFlow loads no code from beside a trace.

    It takes the first of the command line's `words` that is no flag for its own program, here the name of a module, and
    executes every `tensorflow/core/kernels/libtfkernel*.so` in a folder of that name (LoadDynamicKernels,
    core/framework/op_kernel.cc; Env::GetRunfilesDir, tsl/platform/env.cc).

    Raises:
        UserError: there is such a folder.
    """
    for word in words:
        for folder in (f"{word}/tensorflow/core/kernels", f"{word}.runfiles/org_tensorflow"):
            if os.path.exists(folder):
                raise UserError(f"TensorFlow would execute code in {folder}; remove it, or start in another folder")


def import_tensorflow() -> None:
    """Import TensorFlow and Keras and find the devices, silently; warnings of theirs stay off."""
    refuse_kernels_here(sys.orig_argv[1:])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with silenced_stderr():
        import keras
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        for device in tf.config.list_physical_devices("GPU"):
            with contextlib.suppress(RuntimeError):  # already in use by whoever called us
                tf.config.experimental.set_memory_growth(device, True)
        tf.config.list_logical_devices()
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"Keras runs on the {keras.backend.backend()} backend; expected tensorflow: set KERAS_BACKEND=tensorflow"
        )
