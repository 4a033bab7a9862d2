"""The corpus: each a sound trace with one thing done to it, and what every command must say of it.

`python -m tests.hostile.corpus FOLDER` writes the files.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from tests.hostile import sound

Make = Callable[[Path], None]
Change = Callable[[h5py.File], None]
SECRET = "the canary sings"
BITSHUFFLE = 32008


@dataclass(frozen=True)
class Hostile:
    """One file.

    `refused`: what the one line says with which every command refuses it; None where it is let in. `verified`: 1 where
    `verify` ends with that, since it is only found when what is wrong is read; the commands that do read it refuse it.
    `printed`: what `ls` must print of it.
    """

    name: str
    make: Make
    refused: str | None = None
    verified: int = 0
    printed: str = ""


CORPUS: list[Hostile] = []


def hostile(refused: str | None = None, **expected: Any) -> Callable[[Change], Change]:
    """Add the sound trace with a change; its name is the function's."""

    def add(change: Change) -> Change:
        def make(path: Path) -> None:
            path.write_bytes(sound.content())
            with h5py.File(path, "r+") as file:
                change(file)

        CORPUS.append(Hostile(change.__name__, make, refused, **expected))
        return change

    return add


def canary(file: h5py.File) -> Path:
    """A file beside the trace that none of its commands may open."""
    path = Path(file.filename).with_suffix(".canary")
    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as other:
        other["x"] = np.bytes_(json.dumps([SECRET]))
        other["steps"] = np.arange(2)
    return path


def replaced(file: h5py.File, path: str, **how: Any) -> h5py.Dataset:
    """A dataset with another in its place."""
    del file[path]
    return file.create_dataset(path, **how)


def put(file: h5py.File, name: str, text: str | bytes) -> None:
    """A document with another text."""
    encoded = text if isinstance(text, bytes) else text.encode()
    replaced(file, name, data=np.array(encoded, h5py.string_dtype("utf-8", max(1, len(encoded)))))


def edited(file: h5py.File, name: str, **changed: Any) -> None:
    """A JSON document with some of its fields changed."""
    put(file, name, json.dumps({**json.loads(file[name][()]), **changed}))


def put_blob(file: h5py.File, group: str, content: bytes) -> None:
    """The first program or report with other bytes."""
    file[f"{group}/bytes"].resize(len(content), axis=0)
    file[f"{group}/bytes"][:] = np.frombuffer(content, np.uint8)
    file[f"{group}/stop"][0] = len(content)


def put_report(file: h5py.File, **changed: Any) -> None:
    put_blob(file, "reports", json.dumps(sound.report(**changed)).encode())


# -- links -----------------------------------------------------------------------------------------


@hostile("steps/step is a soft link")
def a_soft_link(file: h5py.File) -> None:
    del file["steps/step"]
    file["steps/step"] = h5py.SoftLink("/steps/batch")


@hostile("steps/step is a soft link")
def a_soft_link_to_nothing(file: h5py.File) -> None:
    del file["steps/step"]
    file["steps/step"] = h5py.SoftLink("/nowhere")


@hostile("steps/step is a soft link")
def a_soft_link_to_itself(file: h5py.File) -> None:
    del file["steps/step"]
    file["steps/step"] = h5py.SoftLink("/steps/step")


@hostile("command is a link to another file")
def an_external_link_to_a_document(file: h5py.File) -> None:
    path = canary(file)
    del file["command"]
    file["command"] = h5py.ExternalLink(str(path), "/x")


@hostile("steps/step is a link to another file")
def an_external_link_to_a_column(file: h5py.File) -> None:
    path = canary(file)
    del file["steps/step"]
    file["steps/step"] = h5py.ExternalLink(str(path), "/steps")


@hostile("units is a link to another file")
def an_external_link_to_a_table(file: h5py.File) -> None:
    path = canary(file)
    del file["units"]
    file["units"] = h5py.ExternalLink(str(path), "/")


@hostile("more is a link to another file")
def an_external_link_that_nobody_reads(file: h5py.File) -> None:
    file["more"] = h5py.ExternalLink(str(canary(file)), "/")


@hostile("is a link to another file")
def an_external_link_to_a_device(file: h5py.File) -> None:
    del file["seeds"]
    file["seeds"] = h5py.ExternalLink("/dev/zero", "/")


@hostile()
def a_group_within_itself(file: h5py.File) -> None:
    file["steps/tensors/again"] = file["steps"]
    file["more"] = file["/"]


@hostile("more than 100 one within the other")
def groups_without_end(file: h5py.File) -> None:
    file.create_group("/".join("x" * 300))


@hostile("not printable")
def a_name_of_two_lines(file: h5py.File) -> None:
    file["a\nSound: nothing is wrong"] = 1


@hostile("not printable")
def a_name_that_is_an_escape(file: h5py.File) -> None:
    file["\x1b[2J"] = 1


@hostile("too long")
def a_name_without_end(file: h5py.File) -> None:
    file["n" * 5000] = 1


@hostile("is no UTF-8")
def a_name_that_is_no_text(file: h5py.File) -> None:
    file[b"\xff\xfe"] = 1


# -- storage ---------------------------------------------------------------------------------------


@hostile("steps/step keeps its values in another file")
def external_storage(file: h5py.File) -> None:
    replaced(file, "steps/step", shape=(2,), dtype="<i8", external=[(str(canary(file)), 0, 16)])


@hostile("command keeps its values in another file")
def external_storage_of_a_document(file: h5py.File) -> None:
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_external(b"/etc/hostname", 0, 64)
    kind = h5t.C_S1.copy()
    kind.set_size(64)
    del file["command"]
    h5d.create(file.id, b"command", kind, h5s.create(h5s.SCALAR), creation)


@hostile("steps/step is a virtual dataset")
def a_virtual_dataset(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2,), "<i8")
    layout[:] = h5py.VirtualSource(str(canary(file)), "steps", (2,))
    del file["steps/step"]
    file.create_virtual_dataset("steps/step", layout)


@hostile("is a virtual dataset")
def a_virtual_dataset_of_this_file(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2,), "<i8", maxshape=(None,))
    source = h5py.VirtualSource(".", "steps/batch", (2,), maxshape=(None,))
    layout[: h5s.UNLIMITED] = source[: h5s.UNLIMITED]
    del file["steps/step"]
    file.create_virtual_dataset("steps/step", layout)


@hostile("steps/complete is a compact dataset")
def a_compact_dataset(file: h5py.File) -> None:
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_layout(h5d.COMPACT)
    del file["steps/complete"]
    h5d.create(file["steps"].id, b"complete", h5t.STD_I64LE, h5s.create(h5s.SCALAR), creation)


@hostile("more is a named datatype")
def a_named_datatype(file: h5py.File) -> None:
    file["more"] = np.dtype("<i8")


@hostile("programs/checksum is a group")
def a_group_for_a_dataset_that_may_be_missing(file: h5py.File) -> None:
    del file["programs/checksum"]
    file.create_group("programs/checksum/x")


@hostile("reports/checksum is a group")
def a_group_of_two_names_for_a_dataset_that_may_be_missing(file: h5py.File) -> None:
    del file["reports/checksum"]
    file["reports/checksum"] = file["steps"]


@hostile("steps/step has a named datatype")
def a_column_of_a_named_datatype(file: h5py.File) -> None:
    kind = h5t.STD_I64LE.copy()
    kind.commit(file.id, b"kind")
    replaced(file, "steps/step", shape=(2,), maxshape=(None,), dtype=h5py.Datatype(kind))
    del file["kind"]


@hostile("filter that is not used in traces: 1 ")
def gzip(file: h5py.File) -> None:
    replaced(file, "steps/step", data=np.arange(2), maxshape=(None,), compression="gzip")


@hostile("filter that is not used in traces: 3 ")
def a_checksum_filter(file: h5py.File) -> None:
    replaced(file, "steps/step", data=np.arange(2), maxshape=(None,), fletcher32=True)


@hostile("filter that is not used in traces: 32001 ")
def another_plugin(file: h5py.File) -> None:
    replaced(file, "steps/step", data=np.arange(2), maxshape=(None,), **hdf5plugin.Blosc())


@hostile("goes through bitshuffle with")
def bitshuffle_of_another_size(file: h5py.File) -> None:
    lying_filter(file, (0, 4, 1 << 30, 0, 2))


@hostile("goes through bitshuffle with")
def bitshuffle_of_huge_blocks(file: h5py.File) -> None:
    lying_filter(file, (0, 4, 4, 1 << 31, 2))


@hostile("goes through bitshuffle with")
def bitshuffle_with_another_codec(file: h5py.File) -> None:
    lying_filter(file, (0, 4, 4, 0, 3, 1))


def lying_filter(file: h5py.File, values: tuple[int, ...]) -> None:
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_chunk((1, 4, 2))
    creation.set_filter(BITSHUFFLE, 1, values)
    del file["steps/extent"]
    space = h5s.create_simple((2, 4, 2), (h5s.UNLIMITED, 4, 2))
    h5d.create(file["steps"].id, b"extent", h5t.STD_I32LE, space, creation)


# -- sizes -----------------------------------------------------------------------------------------


@hostile("of 2,147,483,648 that it claims")
def rows_of_8_tib(file: h5py.File) -> None:
    file["steps/step"].resize(1 << 40, axis=0)
    file["steps/complete"][()] = 1 << 40


@hostile("and 4,611,686,018,427,387,904 are claimed")
def rows_that_are_not_there(file: h5py.File) -> None:
    file["steps/complete"][()] = 1 << 62


@hostile("steps/complete is -1")
def fewer_than_no_rows(file: h5py.File) -> None:
    file["steps/complete"][()] = -1


@hostile("and 1,000,000 are claimed")
def documents_that_are_not_there(file: h5py.File) -> None:
    file["reports/complete"][()] = 1_000_000


@hostile("of 390,625 that it claims")
def rows_that_are_not_stored(file: h5py.File) -> None:
    for name in ("step", "batch", "checked", "loss/reference", "loss/candidate", "excess"):
        file[f"steps/{name}"].resize(200_000_000 if name == "step" else 2, axis=0)
    file["steps/complete"][()] = 200_000_000


@hostile(verified=1)
def a_tensor_of_64_gib(file: h5py.File) -> None:
    """Nobody but `verify` and `show` asks for it."""
    layout = json.loads(file["layout"][()])
    layout["tensors"][0]["shape"] = [1 << 17, 1 << 17]
    layout["tensors"][1]["shape"] = [1 << 17, 1 << 17]
    put(file, "layout", json.dumps(layout))
    for lane, dtype in (("reference", "<f4"), ("candidate", "<i4")):
        path, shape = f"steps/tensors/activations/dense/{lane}", (2, 1 << 17, 1 << 17)
        replaced(file, path, shape=shape, maxshape=(None, *shape[1:]), dtype=dtype, chunks=(1, 4, 1 << 17))
    extent = file["steps/extent"][:]
    extent[:, :2] = 1 << 17
    file["steps/extent"][:] = extent


@hostile(verified=1)
def a_piece_that_inflates_without_end(file: h5py.File) -> None:
    write_frame(file, "steps/tensors/activations/dense/reference", struct.pack(">QI", 1 << 40, 8192) + bytes(40))


@hostile(verified=1)
def a_piece_with_blocks_beyond_its_end(file: h5py.File) -> None:
    frame = struct.pack(">QI", 3600, 8192) + struct.pack(">I", 0x7FFFFFFF) + bytes(100)
    write_frame(file, "steps/tensors/activations/dense/reference", frame)


@hostile(verified=1)
def a_piece_with_huge_blocks(file: h5py.File) -> None:
    write_frame(file, "steps/tensors/activations/dense/reference", struct.pack(">QI", 3600, 0xFFFFFFE0) + bytes(100))


@hostile(verified=1)
def a_piece_of_noise(file: h5py.File) -> None:
    frame = struct.pack(">QI", 3600, 8192) + struct.pack(">I", 100) + bytes(range(100))
    write_frame(file, "steps/tensors/activations/dense/reference", frame)


@hostile("it claims 3,600 bytes, and 32 are expected", verified=1)
def a_piece_with_no_header(file: h5py.File) -> None:
    write_frame(file, "steps/extent", struct.pack(">QI", 3600, 8192) + bytes(4))


@hostile("/units/verdict claims 131,072 bytes of 7 stored", verified=1)
def a_text_column_of_noise(file: h5py.File) -> None:
    file["units/verdict"].id.write_direct_chunk((0,), bytes(7))


def write_frame(file: h5py.File, path: str, frame: bytes) -> None:
    """The first row's stored bytes, as the filter would have made them."""
    dataset = file[path]
    dataset.id.write_direct_chunk((0,) * dataset.ndim, frame)


@hostile("claims 2,000,000,000 bytes, and 0 are stored")
def a_text_of_2_gb(file: h5py.File) -> None:
    kind = h5t.C_S1.copy()
    kind.set_size(2_000_000_000)
    del file["command"]
    h5d.create(file.id, b"command", kind, h5s.create(h5s.SCALAR))


@hostile("expected at most 33,554,432")
def a_document_of_40_mb(file: h5py.File) -> None:
    put(file, "command", json.dumps(["x" * (40 << 20)]))


@hostile("a text of 2,097,152 characters")
def a_text_of_2_mb(file: h5py.File) -> None:
    put(file, "command", json.dumps(["x" * (2 << 20)]))


@hostile("bytes; a document has 0 to", verified=1)
def a_report_beyond_its_bytes(file: h5py.File) -> None:
    file["reports/stop"][0] = 1 << 50


@hostile("bytes; a document has 0 to -5", verified=1)
def a_report_that_ends_before_it_begins(file: h5py.File) -> None:
    file["reports/stop"][0] = -5


@hostile("stored in pieces of more than")
def pieces_of_8_gib(file: h5py.File) -> None:
    replaced(file, "steps/step", shape=(2,), maxshape=(None,), dtype="<i8", chunks=(1 << 28,))


# -- types and shapes ------------------------------------------------------------------------------


@hostile("steps/step is float64; expected int64")
def steps_that_are_fractions(file: h5py.File) -> None:
    replaced(file, "steps/step", data=np.arange(2.0), maxshape=(None,))


@hostile("steps/loss/reference is ")
def losses_that_are_texts(file: h5py.File) -> None:
    replaced(file, "steps/loss/reference", data=np.array([b"1", b"2"], "S4"), maxshape=(None,))


@hostile("steps/excess has the shape (2, 7)")
def a_column_of_another_width(file: h5py.File) -> None:
    replaced(file, "steps/excess", data=np.ones((2, 7)), maxshape=(None, 7))


@hostile("steps/extent is int64; expected int32")
def extents_of_64_bits(file: h5py.File) -> None:
    replaced(file, "steps/extent", data=np.ones((2, 4, 2), "<i8"), maxshape=(None, 4, 2))


@hostile("; expected float32")
def a_tensor_that_is_big_endian(file: h5py.File) -> None:
    data = np.ones((2, 300, 3), ">f4")
    replaced(file, "steps/tensors/activations/dense/reference", data=data, maxshape=(None, 300, 3))


@hostile("steps/complete is not one integer")
def a_number_of_rows_that_is_a_text(file: h5py.File) -> None:
    replaced(file, "steps/complete", data=np.bytes_("2"))


@hostile("steps/complete is not one integer")
def many_numbers_of_rows(file: h5py.File) -> None:
    replaced(file, "steps/complete", data=np.arange(3))


@hostile("seeds is no text")
def a_document_that_is_a_number(file: h5py.File) -> None:
    replaced(file, "seeds", data=3)


@hostile("seeds is no text")
def a_document_of_any_length(file: h5py.File) -> None:
    replaced(file, "seeds", data='{"seed": 3}')


@hostile("steps/complete is missing")
def no_steps(file: h5py.File) -> None:
    del file["steps"]


@hostile("programs/bytes is missing")
def no_programs(file: h5py.File) -> None:
    del file["programs"]
    file.create_group("programs")["complete"] = np.int64(0)


@hostile("steps/step is missing")
def a_column_that_is_a_group(file: h5py.File) -> None:
    del file["steps/step"]
    file.create_group("steps/step")


@hostile(" is missing")
def a_table_that_is_a_column(file: h5py.File) -> None:
    del file["steps"]
    file["steps"] = np.arange(2)


@hostile("is missing")
def a_tensor_that_is_not_there(file: h5py.File) -> None:
    del file["steps/tensors/gradients"]


@hostile(verified=1)
def an_extent_beyond_its_tensor(file: h5py.File) -> None:
    file["steps/extent"][0, 0, 0] = 400


@hostile(verified=1)
def an_extent_below_nothing(file: h5py.File) -> None:
    file["steps/extent"][0, 0, 1] = -7


@hostile("the attribute version of the file")
def a_version_that_is_an_array(file: h5py.File) -> None:
    file.attrs["version"] = np.arange(9)


@hostile("the attribute created of the file")
def a_date_of_a_kilobyte(file: h5py.File) -> None:
    file.attrs["created"] = "2" * 1000


@hostile("an HDF5 file of another kind")
def a_schema_that_is_a_number(file: h5py.File) -> None:
    file.attrs["schema"] = 1


# -- documents -------------------------------------------------------------------------------------


@hostile("layout is no JSON")
def a_layout_that_is_no_json(file: h5py.File) -> None:
    put(file, "layout", "{")


@hostile("layout is not as expected")
def a_layout_that_is_a_list(file: h5py.File) -> None:
    put(file, "layout", "[]")


@hostile("seeds is no JSON")
def lists_without_end(file: h5py.File) -> None:
    put(file, "seeds", "[" * 200_000)


@hostile("settings has more than 200 lists or objects")
def lists_within_lists(file: h5py.File) -> None:
    put(file, "settings", '{"x": ' + "[" * 400 + "]" * 400 + "}")


@hostile("layout: lanes is not as expected")
def lanes_that_are_paths(file: h5py.File) -> None:
    edited(file, "layout", lanes=["../reference", "candidate"])


@hostile("Every name must occur once")
def a_layer_twice(file: h5py.File) -> None:
    edited(file, "layout", layers=["dense", "dense"])


def spec(**changed: Any) -> list[dict[str, Any]]:
    return [{"name": "batch_0", "shape": [2, 2], "dtype": "float32", **changed}]


@hostile("layout: batch is not as expected")
def a_dtype_that_is_none(file: h5py.File) -> None:
    edited(file, "layout", batch=spec(dtype="object"))


@hostile("layout: batch is not as expected")
def a_dtype_that_is_a_list(file: h5py.File) -> None:
    edited(file, "layout", batch=spec(dtype=["float32"]))


@hostile("layout: batch is not as expected")
def a_shape_below_nothing(file: h5py.File) -> None:
    edited(file, "layout", batch=spec(shape=[-2, 2]))


@hostile("layout has a number of more than 64 bits")
def a_shape_of_30_digits(file: h5py.File) -> None:
    edited(file, "layout", batch=spec(shape=[10**30, 2]))


@hostile("layout: batch is not as expected")
def a_shape_of_40_axes(file: h5py.File) -> None:
    edited(file, "layout", batch=spec(shape=[1] * 40))


@hostile("layout: batch is not as expected")
def a_field_too_many(file: h5py.File) -> None:
    edited(file, "layout", batch=spec(__class__="os.system"))


@hostile("layout: op_columns is not as expected")
def an_excess_that_is_a_text(file: h5py.File) -> None:
    edited(file, "layout", op_columns=[{"name": "excess", "dtype": "text", "width": None}])


@hostile("environment/reference is not as expected")
def an_environment_that_is_a_list(file: h5py.File) -> None:
    put(file, "environment/reference", "[1]")


@hostile("environment/candidate is not as expected")
def a_place_that_is_a_number(file: h5py.File) -> None:
    edited(file, "environment/candidate", place=7)


@hostile("command is not as expected")
def a_command_of_numbers(file: h5py.File) -> None:
    put(file, "command", "[1, 2]")


@hostile("seeds is not as expected")
def a_seed_that_is_a_text(file: h5py.File) -> None:
    put(file, "seeds", '{"seed": "3"}')


@hostile("settings is not as expected")
def a_setting_of_another_kind(file: h5py.File) -> None:
    edited(file, "settings", follow=["free"])


@hostile("model_config is not as expected")
def a_model_that_is_a_list(file: h5py.File) -> None:
    put(file, "model_config", "[]")


@hostile("command has a text that is no Unicode")
def half_a_character(file: h5py.File) -> None:
    put(file, "command", json.dumps(["\ud800"]))


@hostile("settings is no JSON")
def a_number_of_10000_digits(file: h5py.File) -> None:
    put(file, "settings", '{"x": ' + "9" * 10_000 + "}")


@hostile("checksums is not as expected")
def checksums_that_are_a_list(file: h5py.File) -> None:
    put(file, "checksums", "[]")


@hostile("report is no JSON", verified=1)
def a_report_that_is_no_json(file: h5py.File) -> None:
    put_blob(file, "reports", b"{")


@hostile("report is not as expected", verified=1)
def a_report_that_is_a_list(file: h5py.File) -> None:
    put_blob(file, "reports", b"[]")


@hostile("report: first_divergence is not as expected", verified=1)
def an_excess_that_is_no_number(file: h5py.File) -> None:
    put_report(file, first_divergence=sound.divergence(excess="much"))


@hostile("report: divergences is not as expected", verified=1)
def divergences_that_are_none(file: h5py.File) -> None:
    put_report(file, divergences=[None])


# -- text ------------------------------------------------------------------------------------------


def with_text(name: str, printed: str, **given: Any) -> None:
    CORPUS.append(Hostile(name, lambda path: sound.write(path, **given) and None, None, printed=printed))


with_text("a_layer_that_is_markup", "[/x]", layer="[/x]")
with_text("a_layer_that_is_an_escape", "\\x1b]0;owned", layer="\x1b]0;owned\x07")
with_text("a_layer_that_is_a_formula", "=cmd|' ", layer="=cmd|' /C calc'!A0")
with_text("a_layer_of_two_lines", "x\\nSound: nothing is wrong", layer="x\nSound: nothing is wrong in 12 checks.")
with_text("a_layer_that_is_html", "<script>", layer="<script>alert(1)</script>")
with_text("a_layer_of_300_letters", "nnnn", layer="n" * 300)
with_text("a_command_with_escapes", "\\x1b[2J", documents={"command": ["python", "\x1b[2J\x1b[31m"]})
with_text(
    "an_environment_with_escapes", "\\x1b[8m",
    documents={"environment": {lane: {"place": "\x1b[8mCPU:0"} for lane in sound.LANES}},
)  # fmt: skip
with_text(
    "a_cause_that_reads_backwards", "\\u202e", first_divergence=sound.divergence(cause="\u202egnihton\u2066"),
)  # fmt: skip


@hostile("decode byte", verified=1)
def a_column_that_is_no_text(file: h5py.File) -> None:
    file["units/layer"][0] = np.array(b"\xff\xfe", file["units/layer"].dtype)


# -- whole files -----------------------------------------------------------------------------------


def whole_file(name: str, make: Make, refused: str, verified: int = 0) -> None:
    CORPUS.append(Hostile(name, make, refused, verified))


def cut(share: float) -> Make:
    def make(path: Path) -> None:
        content = sound.write(path).read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return make


def marked_unfinished(share: float) -> Make:
    """As a kill leaves it, and cut."""

    def make(path: Path) -> None:
        from traces.hdf5.unfinished import CHECKSUM_AT, MARK_AT, lookup3

        content = bytearray(sound.write(path).read_bytes())
        content[MARK_AT] = 5
        struct.pack_into("<I", content, CHECKSUM_AT, lookup3(bytes(content[:CHECKSUM_AT])))
        path.write_bytes(content[: int(share * len(content))])

    return make


whole_file("nothing_at_all", lambda path: path.write_bytes(b"") and None, "not an HDF5 file")
whole_file("a_text_file", lambda path: path.write_text("x" * 99) and None, "not an HDF5 file")
whole_file("a_signature_alone", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n") and None, "truncated or damaged")
whole_file("a_file_cut_in_half", cut(0.5), "truncated or damaged")
whole_file("a_file_short_of_a_byte", cut(0.999999), "truncated or damaged")
whole_file("a_killed_run_cut_in_half", marked_unfinished(0.5), "are lost: the file was cut", verified=1)
whole_file("a_killed_run_cut_at_the_start", marked_unfinished(0.0002), "are lost: the file was cut")
whole_file("a_pipe", lambda path: os.mkfifo(path), "There is no trace")
whole_file("a_folder", lambda path: path.mkdir(), "There is no trace")


def written(folder: Path) -> Iterator[tuple[Hostile, Path]]:
    """Each file of the corpus, made in a folder."""
    for each in CORPUS:
        path = folder / f"{each.name}.h5"
        each.make(path)
        yield each, path


if __name__ == "__main__":
    where = Path(sys.argv[1])
    where.mkdir(parents=True, exist_ok=True)
    for each, path in written(where):
        print(path, "refused: " + each.refused if each.refused is not None else "let in")
