"""Images of two classes that a convolutional network learns, and does not learn too well.

A disc or a square, anywhere, of any size and colour, is filled with one texture on a ground of another, under noise.
Some labels are wrong, as people's are.  So a curve has room to fall: the best that can be reached is
1 - WRONG_LABELS, and a small network ends at about 80% of the validation samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WRONG_LABELS = 0.1
"""Share of the samples whose label is the other class's."""
NOISE = 0.08  # standard deviation, of values in [0, 1]
RADIUS = (0.25, 0.4)  # of a shape, in widths of the image
CONTRAST = (0.1, 0.35)  # of a shape against its ground
WAVES = ((2.0, 4.5), (4.5, 8.0))  # of the texture that fills a disc, and a square, in an image's width
NUM_CLASSES = 2


@dataclass(frozen=True)
class ByteImages:
    """Images kept as bytes, (samples, height, width, channels); indexed, float32 in [0, 1]."""

    pixels: np.ndarray

    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self.pixels[indices].astype(np.float32) / np.float32(255)


def shapes(num_samples: int, size: int, seed: int) -> tuple[ByteImages, np.ndarray]:
    """Images of `size` x `size` x 3, and their labels, int32: 0 for a disc, 1 for a square, some of them wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(num_samples, dtype=np.int32) % NUM_CLASSES)
    pixels = np.empty((num_samples, size, size, 3), np.uint8)
    for index, label in enumerate(labels):
        pixels[index] = np.rint(255 * np.clip(_image(int(label), size, rng), 0, 1))
    is_wrong = rng.random(num_samples) < WRONG_LABELS
    return ByteImages(pixels), np.where(is_wrong, 1 - labels, labels).astype(np.int32)


def _image(label: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """One image, (size, size, 3)."""
    y, x = np.mgrid[0:size, 0:size] / size
    radius = rng.uniform(*RADIUS)
    row, column = rng.uniform(radius, 1 - radius, 2)
    if label == 0:
        inside = np.hypot(y - row, x - column) <= radius
    else:
        half = radius * np.sqrt(np.pi) / 2  # of the disc's area: size alone says nothing
        inside = np.maximum(abs(y - row), abs(x - column)) <= half
    ground, filling = _texture(y, x, (WAVES[0][0], WAVES[1][1]), rng), _texture(y, x, WAVES[label], rng)
    colour = rng.choice((-1, 1)) * rng.uniform(*CONTRAST) * rng.uniform(0.5, 1, 3)
    image = np.where(inside[..., None], filling + colour, ground)
    return image + NOISE * rng.standard_normal(image.shape)


def _texture(y: np.ndarray, x: np.ndarray, waves: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """A plane wave of its own direction, frequency and phase in each channel, about 0.5."""
    angle, frequency, phase = rng.uniform(0, np.pi), rng.uniform(*waves), rng.uniform(0, 2 * np.pi, 3)
    wave = frequency * (np.cos(angle) * y + np.sin(angle) * x)
    return 0.5 + 0.2 * np.sin(2 * np.pi * wave[..., None] + phase)
