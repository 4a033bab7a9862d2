"""Images in a folder of class folders: `FOLDER/CLASS/anything.png`."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from diag.common.memory import total_bytes
from diag.common.wording import size_text
from diag.engine.training.image_sizes import MOST_PIXELS, num_pixels
from diag.engine.training.signature import Signature
from diag.errors import UserError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")  # what tf.io.decode_image reads
_KEPT_BYTES = 2 << 30  # decoded images kept in memory: 7953 of 150x150x3
_LARGEST_FILE = 4 * MOST_PIXELS  # bytes: as a BMP of four channels, which is not compressed
_BATCHES_IN_MEMORY = 100
"""
A size that the model leaves open is refused where this many batches of the images would not fit in memory: the first
layer of a CNN has 32 outputs where an image has 3, and both lanes and the gradients hold them.
"""
_LAYOUT = f"expected FOLDER/CLASS/IMAGE, an image being one of {' '.join(SUFFIXES)}"


class ImageFiles:
    """Images as an array (samples, height, width, channels) of float32 in [0, 1], read when indexed.

    Resized bilinearly, as keras.utils.image_dataset_from_directory does; what was decoded is kept as
    long as memory allows. Grey images fill all channels, alpha is dropped, colour becomes luma for one.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, files: Sequence[Path], image_shape: tuple[int, int, int]) -> None:
        self._files = files
        self._image_shape = image_shape
        self.shape = (len(files), *image_shape)
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._most_kept = max(1, _KEPT_BYTES // (4 * int(np.prod(image_shape))))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return np.stack([self._image(int(index)) for index in indices])

    def verify(self, indices: np.ndarray) -> None:
        """Reads these images now, in the order of their names.

        Raises:
            UserError: naming the first that cannot be read.
        """
        for index in np.unique(indices):
            self._image(int(index))

    def _image(self, index: int) -> np.ndarray:
        if index not in self._kept:
            self._kept[index] = read_image(self._files[index], self._image_shape)
            if len(self._kept) > self._most_kept:
                self._kept.popitem(last=False)
        return self._kept[index]


def image_folder(
    folder: Path, signature: Signature | None, batch_size: int, is_trusted: bool = False
) -> tuple[ImageFiles, np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """The images, their labels (int32, the index of their folder in sorted order), class names and notes.

    is_trusted: links may lead out of the folder.

    Raises:
        UserError: no class folders, one without images, links, a model that does not take one image, or that leaves
            its size open for images too large for this machine in batches of `batch_size`.
    """
    classes = class_folders(folder)
    by_class = {name: _images_in(folder / name) for name in classes}
    if not is_trusted:
        _refuse_links(folder, [folder / name for name in classes], *by_class.values())
    files = [file for images in by_class.values() for file in images]
    counts = [len(images) for images in by_class.values()]
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    image_shape, notes = _image_shape(files[0], signature)
    if notes:
        _refuse_large(image_shape, batch_size, files[0])
    return ImageFiles(files, image_shape), labels, classes, notes


def class_folders(folder: Path) -> tuple[str, ...]:
    """The sorted names of the class folders. Raises UserError where there are none."""
    inside = sorted(folder.iterdir())
    names = tuple(entry.name for entry in inside if entry.is_dir() and not entry.name.startswith("."))
    if not inside:
        raise UserError(f"--data {folder} is an empty folder; {_LAYOUT}")
    if not names:
        images = sum(entry.suffix.lower() in SUFFIXES for entry in inside)
        found = f"holds {images} images but" if images else "has"
        raise UserError(f"--data {folder} {found} no class folders; {_LAYOUT}")
    return names


def read_image(file: Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """One image, float32 in [0, 1], (height, width, channels). Raises UserError naming the file."""
    import tensorflow as tf

    with tf.device("CPU:0"):
        pixels = _with_channels(_decoded(file, image_shape[2]), image_shape[2])
        resized = tf.image.resize(pixels, image_shape[:2], method="bilinear")
        return (resized / 255.0).numpy()


def _images_in(folder: Path) -> list[Path]:
    images = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    if not images:
        raise UserError(f"--data: the class folder {folder} holds no images; {_LAYOUT}; remove or fill it")
    return images


def _refuse_links(folder: Path, *paths: Sequence[Path]) -> None:
    """That nothing of the folder is a link to what is not in it."""
    root = folder.resolve()
    for path in chain(*paths):
        if path.is_symlink() and not (target := path.resolve()).is_relative_to(root):
            raise UserError(
                f"--data: {path} is a link to {target}, out of the folder; copy it there, or, if you trust whoever "
                "made the folder: --trust follows links"
            )


def _refuse_large(image_shape: tuple[int, int, int], batch_size: int, first: Path) -> None:
    num_bytes = 4 * batch_size * math.prod(image_shape)
    if num_bytes * _BATCHES_IN_MEMORY > total_bytes():
        height, width, _ = image_shape
        raise UserError(
            f"--data: the model leaves the image size open and {first} has {height}x{width}: a batch of {batch_size} "
            f"takes {size_text(num_bytes)}, and training {_BATCHES_IN_MEMORY} times that or more, where this machine "
            f"has {size_text(total_bytes())}; give a model with an input size, smaller images or a smaller --batch-size"
        )


def _image_shape(first: Path, signature: Signature | None) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """The model's input size; sizes it leaves open are those of the first image, which is noted."""
    wanted: tuple[int | None, ...] = (None, None, 3)
    if signature is not None:
        if len(signature.inputs) != 1 or len(signature.inputs[0].shape) != 3:
            shapes = ", ".join(str((None, *spec.shape)) for spec in signature.inputs)
            raise UserError(f"--data is a folder of images but the model takes {shapes}; give an .npz file")
        wanted = signature.inputs[0].shape
    if wanted[2] not in (None, 1, 3, 4):
        raise UserError(f"--data: the model's input has {wanted[2]} channels; images have 1, 3 or 4")
    if None not in wanted:
        return wanted, ()  # type: ignore[return-value]
    found = _decoded(first, wanted[2] or 3).shape
    height, width = (size or int(given) for size, given in zip(wanted[:2], found[:2], strict=True))
    note = f"the model leaves the image size open: all are resized to {height}x{width}, as {first.name} is"
    return (height, width, wanted[2] or 3), (note,)


def _decoded(file: Path, channels: int) -> Any:
    """The pixels, uint8, with `channels` where the format can give them, else with its own."""
    import tensorflow as tf

    try:
        content = _content_of(file)
        try:
            return tf.io.decode_image(content, channels=channels, expand_animations=False)
        except tf.errors.InvalidArgumentError:  # a BMP or GIF in grey, a JPEG with alpha
            return tf.io.decode_image(content, expand_animations=False)
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = str(error) if isinstance(error, ValueError) else type(error).__name__
        raise UserError(f"--data: {file} cannot be read as an image ({reason}); replace or remove it") from error


def _content_of(file: Path) -> bytes:
    """The file's bytes, where their headers claim no more pixels than can be decoded.

    Raises OSError, UserError, and ValueError where it is no image.
    """
    if (size := file.stat().st_size) > _LARGEST_FILE:
        raise _too_large(file, size_text(size))
    content = file.read_bytes()
    if (pixels := num_pixels(content)) > MOST_PIXELS:
        raise _too_large(file, f"{pixels:,} pixels")
    return content


def _too_large(file: Path, has: str) -> UserError:
    return UserError(f"--data: {file} has {has}; expected at most {MOST_PIXELS:,} pixels; replace or remove it")


def _with_channels(pixels: Any, channels: int) -> Any:
    import tensorflow as tf

    found = pixels.shape[-1]
    if found == channels:
        return pixels
    if found in (2, 4) and channels < found:  # grey or colour with alpha
        return _with_channels(pixels[..., : found - 1], channels)
    if channels == 1:
        return tf.image.rgb_to_grayscale(pixels)
    colour = tf.image.grayscale_to_rgb(pixels[..., :1]) if found < 3 else pixels
    opaque = tf.fill([*colour.shape[:2], 1], tf.constant(255, tf.uint8))
    return tf.concat([colour, opaque], axis=-1) if channels == 4 else colour
