"""Models and data of a stranger: each what Keras or NumPy write, with one thing done to it.

`python -m tests.hostile.inputs FOLDER` makes them.
"""

from __future__ import annotations

import io
import json
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from tests.hostile.model import Either

SECRET = "the canary sings"
WEIGHTS = "model.weights.h5"
KERNEL = "layers/dense/vars/0"
GIB = 1 << 30

Make = Callable[[Path], list[str]]
"""Of what writes into a folder, and gives the flags that name it."""


@dataclass(frozen=True)
class Hostile:
    """`says`: what the one line says that refuses it."""

    name: str
    make: Make
    says: str


CORPUS: list[Hostile] = []


def hostile(says: str) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        CORPUS.append(Hostile(make.__name__, make, says))
        return make

    return add


# -- models ----------------------------------------------------------------------------------------


def saved(folder: Path, *layers: keras.Layer) -> Path:
    """A small model; its Dense is the last layer of its name."""
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3, name="dense")])
    model.save(folder / "model.keras")
    return folder / "model.keras"


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, content: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> list[str]:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, each in content.items():
            archive.writestr(name, each)
    return ["--model", str(path)]


def configured(folder: Path, change: Callable[[dict[str, Any]], None]) -> list[str]:
    """A model with another configuration of its Dense layer."""
    content = members(saved(folder))
    config = json.loads(content["config.json"])
    change(config["config"]["layers"][-1])
    return packed(folder / "model.keras", content | {"config.json": json.dumps(config).encode()})


def weighted(folder: Path, change: Callable[[h5py.File], None]) -> list[str]:
    """A model with other weights."""
    content = members(saved(folder))
    weights = folder / WEIGHTS
    weights.write_bytes(content[WEIGHTS])
    with h5py.File(weights, "r+") as file:
        change(file)
    content[WEIGHTS] = weights.read_bytes()
    weights.unlink()
    return packed(folder / "model.keras", content)


def code(folder: Path) -> str:
    """Python that would leave a file."""
    return f"lambda x: __import__('pathlib').Path({str(folder / 'written')!r}).write_text('x') and x * 2.0"


@hostile("it holds Python code (Lambda) in mine; give FILE.py:FUNCTION that loads it, or, if you trust")
def a_lambda(folder: Path) -> list[str]:
    return ["--model", str(saved(folder, keras.layers.Lambda(eval(code(folder)), (4,), name="mine")))]


@hostile("it holds Python code (Lambda) in mine")
def a_lambda_within_a_layer(folder: Path) -> list[str]:
    inner = keras.layers.Lambda(eval(code(folder)), (4,), name="mine")
    reshaped = keras.layers.Reshape((1, 4)), keras.layers.TimeDistributed(inner), keras.layers.Flatten()
    return ["--model", str(saved(folder, *reshaped))]


@hostile("it holds Python code (Lambda) in mine")
def a_lambda_as_of_keras_2(folder: Path) -> list[str]:
    def change(layer: dict[str, Any]) -> None:
        layer.clear()
        layer |= {"class_name": "Lambda", "config": {"name": "mine", "function": ["4wEAAAA=", None, None]}}

    return configured(folder, change)


@hostile("it holds Python code (__lambda__)")
def a_lambda_as_an_activation(folder: Path) -> list[str]:
    given = {"class_name": "__lambda__", "config": {"value": ["4wEAAAA=", None, None]}}
    return configured(folder, lambda layer: layer["config"].update(activation=given))


@hostile("it holds the class tests.hostile.model.Either, which is not Keras's")
def a_class_of_ones_own(folder: Path) -> list[str]:
    return ["--model", str(saved(folder, Either()))]


@hostile("it holds the class os.system, which is not Keras's")
def a_function_of_the_system(folder: Path) -> list[str]:
    given = {"module": "os", "class_name": "system", "config": f"touch {folder / 'written'}", "registered_name": None}
    return configured(folder, lambda layer: layer["config"].update(activation=given))


def named(module: str, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


@hostile("it holds the function exec, which is not Keras's")
def a_function_of_python(folder: Path) -> list[str]:
    return configured(folder, lambda layer: layer["config"].update(activation=named("builtins", "exec")))


@hostile("it holds the function enable_unsafe_deserialization, which is not Keras's")
def a_function_that_allows_all(folder: Path) -> list[str]:
    given = named("keras.config", "enable_unsafe_deserialization")
    return configured(folder, lambda layer: layer["config"].update(activation=given))


@hostile("it holds the function get_file, which is not Keras's")
def a_function_that_loads_files(folder: Path) -> list[str]:
    return configured(folder, lambda layer: layer["config"].update(activation=named("keras.utils", "get_file")))


@hostile("it holds the class keras.src.utils.file_utils.os.system, which is not Keras's")
def a_way_through_keras(folder: Path) -> list[str]:
    given = {"module": "keras.src.utils.file_utils.os", "class_name": "system", "config": {}, "registered_name": None}
    return configured(folder, lambda layer: layer["config"].update(activation=given))


@hostile("it holds a SavedModel elsewhere (TFSMLayer)")
def a_model_elsewhere(folder: Path) -> list[str]:
    given = {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": str(folder)}}
    return configured(folder, lambda layer: layer.update(given))


@hostile("it holds the name of a file, /etc/hostname, in words")
def a_vocabulary_elsewhere(folder: Path) -> list[str]:
    config = {"name": "words", "vocabulary": "/etc/hostname"}
    given = {"module": "keras.layers", "class_name": "StringLookup", "config": config}
    return configured(folder, lambda layer: layer.update(given))


@hostile("cannot be read as a Keras 3 model: JSONDecodeError")
def a_configuration_that_is_none(folder: Path) -> list[str]:
    return packed(folder / "model.keras", members(saved(folder)) | {"config.json": b"{"})


@hostile("cannot be read as a Keras 3 model: RecursionError")
def a_configuration_without_end(folder: Path) -> list[str]:
    return packed(folder / "model.keras", members(saved(folder)) | {"config.json": b"[" * 200_000})


@hostile("its config.json has 100.0 MiB; expected at most 64.0 MiB")
def a_configuration_of_blanks(folder: Path) -> list[str]:
    content = members(saved(folder)) | {"config.json": b" " * (100 << 20)}
    return packed(folder / "model.keras", content, zipfile.ZIP_DEFLATED)


@hostile("cannot be read as a Keras 3 model: ")
def a_layer_of_ten_trillion_weights(folder: Path) -> list[str]:
    def change(layer: dict[str, Any]) -> None:
        layer["config"]["units"] = 2_500_000_000_000

    return configured(folder, change)


@hostile(f"its {WEIGHTS} is no file of weights: Unsound: {KERNEL} is a link to another file")
def weights_by_a_link_to_another_file(folder: Path) -> list[str]:
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.ones((4, 3), np.float32)

    def change(file: h5py.File) -> None:
        del file[KERNEL]
        file[KERNEL] = h5py.ExternalLink(str(folder / "other.h5"), "/x")

    return weighted(folder, change)


@hostile(f"{KERNEL} is a soft link")
def weights_by_a_soft_link(folder: Path) -> list[str]:
    def change(file: h5py.File) -> None:
        del file[KERNEL]
        file[KERNEL] = h5py.SoftLink("/layers/dense/vars/1")

    return weighted(folder, change)


@hostile(f"{KERNEL} keeps its values in another file")
def weights_stored_elsewhere(folder: Path) -> list[str]:
    def change(file: h5py.File) -> None:
        del file[KERNEL]
        file.create_dataset(KERNEL, (4, 3), "f4", external=[("/etc/hostname", 0, 48)])

    return weighted(folder, change)


@hostile(f"{KERNEL} is a virtual dataset")
def weights_of_another_file(folder: Path) -> list[str]:
    def change(file: h5py.File) -> None:
        del file[KERNEL]
        layout = h5py.VirtualLayout((4, 3), "f4")
        layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (4, 3))
        file.create_virtual_dataset(KERNEL, layout)

    return weighted(folder, change)


@hostile(f"{KERNEL} goes through a filter")
def weights_that_inflate(folder: Path) -> list[str]:
    def change(file: h5py.File) -> None:
        del file[KERNEL]
        file.create_dataset(KERNEL, (4, 1 << 24), "f4", chunks=(4, 1 << 20), compression="gzip", fillvalue=0)[0, 0] = 1

    return weighted(folder, change)


@hostile(f"{KERNEL} claims 8192.0 GiB and 0 B of it are stored")
def weights_that_are_claimed(folder: Path) -> list[str]:
    def change(file: h5py.File) -> None:
        del file[KERNEL]
        file.create_dataset(KERNEL, (1 << 41,), "f4")

    return weighted(folder, change)


@hostile(f"{KERNEL} holds no numbers")
def weights_that_are_texts(folder: Path) -> list[str]:
    def change(file: h5py.File) -> None:
        del file[KERNEL]
        file.create_dataset(KERNEL, data=np.full((4, 3), b"text"))

    return weighted(folder, change)


@hostile(f"its {WEIGHTS} is no file of weights: OSError")
def weights_that_are_none(folder: Path) -> list[str]:
    return packed(folder / "model.keras", members(saved(folder)) | {WEIGHTS: b"no HDF5"})


# -- archives --------------------------------------------------------------------------------------


def with_member(folder: Path, name: str, content: bytes = b"x", **changed: Any) -> list[str]:
    """A model's archive with one member more."""
    path = saved(folder)
    info = zipfile.ZipInfo(name)
    for field, value in changed.items():
        setattr(info, field, value)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, content)
    return ["--model", str(path)]


@hostile("it holds assets/../../written, which leads out of it")
def a_member_above(folder: Path) -> list[str]:
    return with_member(folder, "assets/../../written")


@hostile("it holds /tmp/written, which leads out of it")
def a_member_from_the_root(folder: Path) -> list[str]:
    return with_member(folder, "/tmp/written")


@hostile("which leads out of it")
def a_member_of_another_drive(folder: Path) -> list[str]:
    return with_member(folder, "C:/written")


@hostile("it holds assets/link, which is a link or a device")
def a_member_that_is_a_link(folder: Path) -> list[str]:
    return with_member(folder, "assets/link", b"/etc", external_attr=(stat.S_IFLNK | 0o777) << 16)


@hostile("it holds config.json 2 times")
def a_member_twice(folder: Path) -> list[str]:
    return with_member(folder, "config.json", b"{}")


@hostile("it holds assets/x, which is compressed by method 12")
def a_member_compressed_otherwise(folder: Path) -> list[str]:
    return with_member(folder, "assets/x", compress_type=zipfile.ZIP_BZIP2)


@hostile("it is no Keras 3 model: it holds evil.py")
def a_member_more(folder: Path) -> list[str]:
    return with_member(folder, "evil.py")


@hostile("it is no Keras 3 model: there is no model.weights.h5 in it")
def a_member_less(folder: Path) -> list[str]:
    content = members(saved(folder))
    del content[WEIGHTS]
    return packed(folder / "model.keras", content)


def claiming(path: Path, num_bytes: int) -> None:
    """Let the archive's table say of its last member that it is so large."""
    content = bytearray(path.read_bytes())
    at = content.rfind(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", num_bytes)
    path.write_bytes(content)


@hostile("it inflates from ")
def an_archive_that_claims_to_inflate(folder: Path) -> list[str]:
    flags = with_member(folder, "assets/x")
    claiming(Path(flags[1]), 3 * GIB)
    return flags


@hostile("cannot be read as a Keras 3 model: BadZipFile")
def an_archive_that_was_cut(folder: Path) -> list[str]:
    path = saved(folder)
    path.write_bytes(path.read_bytes()[:-100])
    return ["--model", str(path)]


# -- arrays ----------------------------------------------------------------------------------------


def arrays(folder: Path, **changed: bytes) -> list[str]:
    """An `.npz` file; `changed` are members by the names of their arrays."""
    path = folder / "data.npz"
    members = {"x": npy(np.ones((8, 4), np.float32)), "y": npy(np.arange(8) % 3), **changed}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return ["--data", str(path), "--model", str(saved(folder))]


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class Writes:
    """What would leave a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("written", "w")


@hostile("arrays of dtype object cannot be read")
def arrays_of_objects(folder: Path) -> list[str]:
    return arrays(folder, y=npy(np.array([Writes()] * 8, object)))


@hostile("it inflates from ")
def arrays_that_inflate(folder: Path) -> list[str]:
    return arrays(folder, y=b"\0" * (300 << 20))


@hostile("cannot be read as .npz: ")
def arrays_that_are_claimed(folder: Path) -> list[str]:
    content = npy(np.zeros(8)).replace(b"(8,), }          ", b"(1099511627776,)}")
    assert b"1099511627776" in content
    return arrays(folder, x=content)


@hostile("holds x, y.npy; expected x and y")
def an_array_under_a_longer_name(folder: Path) -> list[str]:
    path = folder / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy(np.ones(4)))
        archive.writestr("y.npy.npy", npy(np.ones(4)))
    return ["--data", str(path), "--model", str(saved(folder))]


@hostile("inputs is a single number")
def an_array_that_is_none(folder: Path) -> list[str]:
    return arrays(folder, x=b"no array")


@hostile("it holds ../written.npy, which leads out of it")
def an_array_above(folder: Path) -> list[str]:
    return arrays(folder, **{"../written": npy(np.ones(1))})


@hostile("cannot be read as .npz: BadZipFile")
def an_array_with_another_checksum(folder: Path) -> list[str]:
    flags = arrays(folder)
    content = bytearray(Path(flags[1]).read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 16] ^= 1
    Path(flags[1]).write_bytes(content)
    return flags


# -- images ----------------------------------------------------------------------------------------


def pictures(folder: Path, name: str, content: bytes) -> list[str]:
    """Two folders of one image each, one of them hostile."""
    for kind in ("cats", "dogs"):
        (folder / "photos" / kind).mkdir(parents=True)
        (folder / "photos" / kind / "a.png").write_bytes(png(8, 8, b"\0" * 8 * 25))
    (folder / "photos" / "cats" / "a.png").unlink()
    (folder / "photos" / "cats" / name).write_bytes(content)
    return ["--data", str(folder / "photos")]


def png(height: int, width: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def gif(side: int, num_frames: int) -> bytes:
    size = struct.pack("<HH", side, side)
    frame = b"," + b"\0" * 4 + size + b"\0\x02\x02\x4c\x01\0"
    return b"GIF89a" + size + b"\x80\0\0" + b"\0\0\0\xff\xff\xff" + b"!\xf9\x04\0\0\0\0\0" + frame * num_frames + b";"


def of_any_size(folder: Path) -> Path:
    """A model that takes images of any size."""
    layers = [keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
    keras.Sequential([*layers, keras.layers.Dense(2, "softmax")]).save(folder / "open.keras")
    return folder / "open.keras"


@hostile("has 900,000,000 pixels; expected at most 178,956,970 pixels")
def a_png_of_900_million_pixels(folder: Path) -> list[str]:
    return pictures(folder, "a.png", png(30_000, 30_000, b"\0" * 1000))


@hostile("has 4,294,836,225 pixels")
def a_jpeg_of_4_billion_pixels(folder: Path) -> list[str]:
    header = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03"
    return pictures(folder, "a.jpg", header + b"\x01\x22\0\x02\x11\1\x03\x11\1" + b"\0" * 100)


@hostile("has 2,500,000,000 pixels")
def a_bmp_of_2_billion_pixels(folder: Path) -> list[str]:
    size = struct.pack("<Iii", 40, 50_000, -50_000)
    return pictures(folder, "a.bmp", b"BM" + b"\0" * 8 + struct.pack("<I", 54) + size + b"\1\0\x18\0" + b"\0" * 100)


@hostile("has 202,000,000 pixels")
def a_gif_of_200_frames(folder: Path) -> list[str]:
    return pictures(folder, "a.gif", gif(1000, 201))


@hostile("has 4.0 GiB; expected at most")
def an_image_file_of_4_gib(folder: Path) -> list[str]:
    flags = pictures(folder, "a.png", b"")
    with (folder / "photos/cats/a.png").open("r+b") as file:
        file.truncate(4 * GIB)  # no block of it is stored
    return flags


@hostile("cannot be read as an image (its headers are cut)")
def an_image_that_ends_in_its_headers(folder: Path) -> list[str]:
    return pictures(folder, "a.jpg", b"\xff\xd8\xff\xe0\0\x10JF")


@hostile("the model leaves the image size open and ")
def a_photo_for_a_model_of_any_size(folder: Path) -> list[str]:
    flags = pictures(folder, "a.png", png(6000, 6000, b"\0" * 6000 * 18_001))
    return [*flags, "--model", str(of_any_size(folder)), "--batch-size", "1000"]


@hostile(" is a link to ")
def an_image_elsewhere(folder: Path) -> list[str]:
    flags = pictures(folder, "a.png", b"")
    (folder / "secret.png").write_bytes(png(8, 8, b"\0" * 8 * 25))
    (folder / "photos/cats/a.png").unlink()
    (folder / "photos/cats/a.png").symlink_to(folder / "secret.png")
    return flags


@hostile(" is a link to ")
def a_class_elsewhere(folder: Path) -> list[str]:
    flags = pictures(folder, "a.png", png(8, 8, b"\0" * 8 * 25))
    (folder / "photos/dogs").rename(folder / "secret")
    (folder / "photos/dogs").symlink_to("../secret")
    return flags


def main(folder: Path) -> None:
    for each in CORPUS:
        (folder / each.name).mkdir(parents=True)
        print(each.name, *each.make(folder / each.name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
