"""Images in class folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.training import data_images
from diag.engine.training.data import Batches, image_hints, load_batches
from diag.engine.training.data_images import read_image
from diag.engine.training.signature import InputSpec, OutputSpec, Signature
from diag.errors import UserError

IMAGES = Signature((InputSpec("image", (8, 8, 3)),), (OutputSpec("kind", (2,), "softmax"),))
NUMBERS = Signature((InputSpec("x", (4,)),), (OutputSpec("kind", (3,), "softmax"),))


def load(spec: str | Path | None, signature: Signature | None = NUMBERS, **changes) -> Batches:
    settings = {"batch_size": 4, "steps": 3, "seed": 7} | changes
    return load_batches(spec if spec is None else str(spec), signature=signature, **settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, `cats` all 51 (0.2) and `dogs` all 204 (0.8), of other sizes than the model's."""
    for name, value, count in (("dogs", 204, 3), ("cats", 51, 4)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(count):
            pixels = tf.fill((5 + index, 9, 3), tf.constant(value, tf.uint8))
            (tmp_path / "images" / name / f"{index}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    (tmp_path / "images" / "cats" / "notes.txt").write_text("not an image")
    (tmp_path / "images" / ".hidden").mkdir()
    return tmp_path / "images"


def test_folder_of_class_folders(folder):
    batches = load(folder, IMAGES, batch_size=7)
    batch, description = batches[0], batches.description
    assert description.class_names == ("cats", "dogs") and description.num_samples == 7
    assert batch.inputs.shape == (7, 8, 8, 3) and batch.inputs.dtype == np.float32
    assert batch.targets.dtype == np.int32 and sorted(batch.targets) == [0] * 4 + [1] * 3
    expected = np.where(batch.targets == 0, np.float32(0.2), np.float32(0.8))
    np.testing.assert_allclose(batch.inputs[:, 3, 5, 1], expected, rtol=1e-6)
    np.testing.assert_array_equal(load(folder, IMAGES, batch_size=7)[0].inputs, batch.inputs)


def test_images_are_resized_bilinearly_and_scaled(tmp_path):
    pixels = np.array([[[0], [100]], [[200], [40]]], np.uint8)
    (tmp_path / "a.png").write_bytes(tf.io.encode_png(pixels).numpy())
    image = read_image(tmp_path / "a.png", (4, 4, 1))
    # Half-pixel centres: rows and columns weigh the two pixels 1:0, 3:1, 1:3, 0:1.
    weights = np.array([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    np.testing.assert_allclose(image[..., 0], weights @ (pixels[..., 0] / 255) @ weights.T, rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", ["grey.png", "alpha.png", "rgb.jpg", "grey.jpeg", "rgb.bmp", "rgb.gif"])
def test_every_format_in_every_number_of_channels(tmp_path, suffix, channels):
    file = tmp_path / f"image.{suffix}"
    found = {"grey": 1, "alpha": 4, "rgb": 3}[suffix.split(".")[0]]
    file.write_bytes(encoded(np.full((6, 6, found), 128, np.uint8), file.suffix))
    image = read_image(file, (6, 6, channels))
    assert image.shape == (6, 6, channels)
    np.testing.assert_allclose(image[..., 0], 128 / 255, atol=2 / 255)  # JPEG, and luma, round


def encoded(pixels: np.ndarray, suffix: str) -> bytes:
    """An image of one colour in each format; BMP and GIF by hand, since TensorFlow writes neither."""
    if suffix == ".png":
        return tf.io.encode_png(pixels).numpy()
    if suffix in (".jpg", ".jpeg"):
        return tf.io.encode_jpeg(pixels).numpy()
    height, width = pixels.shape[:2]
    if suffix == ".bmp":
        rows = b"".join(row.tobytes() + b"\0" * (-row.nbytes % 4) for row in pixels[::-1, :, ::-1])
        sizes = [(54 + len(rows), 4), (0, 4), (54, 4), (40, 4), (width, 4), (height, 4), (1, 2), (24, 2)]
        sizes += [(0, 4), (len(rows), 4), (0, 4), (0, 4), (0, 4), (0, 4)]
        return b"BM" + b"".join(value.to_bytes(size, "little") for value, size in sizes) + rows
    # GIF: two grey colours, LZW codes of 3 bits: clear, then a pixel and a clear in turn, then end.
    codes = [4, *[code for _ in range(height * width) for code in (1, 4)], 5]
    bits = sum(code << (3 * index) for index, code in enumerate(codes))
    lzw = bits.to_bytes(-(-3 * len(codes) // 8), "little")
    size = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    colours = bytes([0, 0, 0, 128, 128, 128] + [0] * 6)
    head = b"GIF89a" + size + b"\x91\0\0" + colours + b"," + b"\0" * 4 + size + b"\0"
    return head + b"\x02" + bytes([len(lzw)]) + lzw + b"\0;"


def test_sizes_that_the_model_leaves_open_are_those_of_the_first_image(folder):
    signature = Signature((InputSpec("image", (None, None, 1)),), IMAGES.outputs)
    batches = load(folder, signature)
    assert batches[0].inputs.shape == (4, 5, 9, 1)
    assert "resized to 5x9, as 0.png is" in batches.description.notes[0]
    assert load(folder, None)[0].inputs.shape == (4, 5, 9, 3)


def test_only_the_images_that_a_run_uses_are_read_at_the_door(folder, monkeypatch):
    read: list[Path] = []
    real = data_images.read_image
    monkeypatch.setattr(data_images, "read_image", lambda file, shape: (read.append(file), real(file, shape))[1])
    batches = load(folder, IMAGES, batch_size=2, steps=2)
    assert len(read) == 4
    assert batches[1].num_samples == 2 and len(read) == 4
    monkeypatch.setattr(data_images, "_KEPT_BYTES", 1)
    again = load(folder, IMAGES, batch_size=2, steps=2)
    np.testing.assert_array_equal(again[1].inputs, batches[1].inputs)


def test_folders_that_are_refused(folder, tmp_path):
    def message(path: Path, signature: Signature | None = IMAGES) -> str:
        with pytest.raises(UserError) as error:
            load(path, signature, batch_size=7)
        assert "\n" not in str(error.value)
        return str(error.value)

    (tmp_path / "empty").mkdir()
    assert "is an empty folder" in message(tmp_path / "empty")
    assert "holds 4 images but no class folders" in message(folder / "cats")
    assert "model takes (None, 4)" in message(folder, NUMBERS)
    five = Signature((InputSpec("image", (8, 8, 5)),), IMAGES.outputs)
    assert "has 5 channels; images have 1, 3 or 4" in message(folder, five)
    three = Signature(IMAGES.inputs, (OutputSpec("kind", (1,), "sigmoid"),))
    (folder / "emus").mkdir()
    assert str(folder / "emus") in message(folder) and "holds no images" in message(folder)
    (folder / "emus" / "1.png").write_bytes((folder / "cats" / "0.png").read_bytes())
    assert "expected 0 to 1" in message(folder, three)
    for content in (b"", b"no image", (folder / "cats" / "0.png").read_bytes()[:-30]):
        (folder / "emus" / "1.png").write_bytes(content)
        assert f"{folder / 'emus' / '1.png'} cannot be read as an image" in message(folder, None)


def test_hints_from_a_folder_are_its_classes(folder):
    assert image_hints(str(folder)) == (None, 2)
