"""The first check of a file: it holds groups and plain datasets, and nothing that leads out of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import h5py
from h5py import h5d, h5g, h5l, h5o, h5p, h5s, h5t

from traces.hdf5.chunks import MAX_BLOCK_BYTES, Unsound
from traces.hdf5.creation import APPENDED

LONGEST_NAME = 4096
"""Characters of one name in the file."""
MOST_OBJECTS = 1_000_000
DEEPEST = 100
"""Groups within groups; a model's own names go twenty deep."""
LARGEST_CHUNK = 64 << 20
"""Bytes; those of the writer are of 2 MiB."""
BITSHUFFLE = 32008
"""The filter's number (https://github.com/HDFGroup/hdf5_plugins, registered filters)."""
LZ4 = 2
_LINKS = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "a link to another file"}


@dataclass(frozen=True)
class Stored:
    """How one dataset lies in the file; `chunks` None where it lies in one piece."""

    shape: tuple[int, ...]
    kind: h5t.TypeID
    chunks: tuple[int, ...] | None
    num_bytes: int
    """What is stored of it, as HDF5 says."""

    @property
    def is_whole(self) -> bool:
        """Of a dataset in one piece: whether all that it claims is stored."""
        return bool(self.num_bytes == math.prod(self.shape) * self.kind.get_size())


OPTIONAL = ("checksum", *APPENDED)
"""Datasets of a table or of documents that traces of earlier versions have not; a group of that name is none."""


def datasets_of(file: h5py.File, size: int) -> dict[str, Stored]:
    """Every dataset of a file of `size` bytes by its path, without the first slash.

    Nothing is read of them, and no link but those within the file is followed.

    Raises:
      Unsound: something is not as the writer makes it, which is said.
    """
    found: dict[str, Stored] = {}
    known: dict[int, Stored | None] = {}
    groups: list[tuple[h5g.GroupID, str, int]] = [(file.id, "", 0)]
    num_names = 0
    while groups:
        group, above, depth = groups.pop()
        for name, address in _links(group, above):
            num_names += 1
            if num_names > MOST_OBJECTS or depth > DEEPEST:
                raise Unsound(f"it has more than {MOST_OBJECTS:,} names, or more than {DEEPEST} one within the other")
            here = f"{above}/{name}".lstrip("/")
            if address not in known:
                member = h5o.open(group, name.encode())
                known[address] = None if isinstance(member, h5g.GroupID) else _stored(member, here, size)
                if isinstance(member, h5g.GroupID):
                    groups.append((member, here, depth + 1))
            stored = known[address]
            if stored is None and depth == 1 and name in OPTIONAL:  # also one that was met under another name
                raise Unsound(f"{here} is a group")
            if stored is not None:
                found[here] = stored
    return found


def _links(group: h5g.GroupID, above: str) -> list[tuple[str, int]]:
    """The names in a group and where in the file each object lies; all of them hard links."""
    raw: list[tuple[bytes, int, int]] = []

    def add(name: bytes, link: h5l.LinkInfo) -> None:
        raw.append((name, link.type, link.u))  # h5py hands over the same object each time
        if len(raw) > MOST_OBJECTS:
            raise Unsound(f"it has more than {MOST_OBJECTS:,} names")

    group.links.iterate(add, info=True)
    links = []
    for name, kind, address in raw:
        try:
            text = name.decode()
        except UnicodeDecodeError:
            raise Unsound(f"a name in {above or 'the root'} is no UTF-8") from None
        if len(text) > LONGEST_NAME or not text.isprintable():
            raise Unsound(f"a name in {above or 'the root'} is too long or not printable: {text}")
        if kind != h5l.TYPE_HARD:
            raise Unsound(f"{above}/{text} is {_LINKS.get(kind, 'a link of an unknown kind')}".lstrip("/"))
        links.append((text, address))
    return links


def _stored(member: object, path: str, file_size: int) -> Stored:
    if not isinstance(member, h5d.DatasetID):
        raise Unsound(f"{path} is a named datatype")
    creation = member.get_create_plist()
    layout = creation.get_layout()
    if creation.get_external_count():
        raise Unsound(f"{path} keeps its values in another file")
    if layout not in (h5d.CONTIGUOUS, h5d.CHUNKED):
        raise Unsound(f"{path} is a {'virtual' if layout == h5d.VIRTUAL else 'compact'} dataset")
    kind, space = member.get_type(), member.get_space()
    if kind.committed():
        raise Unsound(f"{path} has a named datatype")
    if space.get_simple_extent_type() == h5s.NULL:
        raise Unsound(f"{path} is an empty dataset")
    shape = tuple(map(int, space.get_simple_extent_dims()))
    _refuse_filters(creation, kind.get_size(), path)
    if layout == h5d.CONTIGUOUS:
        stored = Stored(shape, kind, None, int(member.get_storage_size()))
        if stored.num_bytes and member.get_offset() + stored.num_bytes > file_size:
            raise Unsound(f"{path} is lost: the file was cut")
        return stored
    chunks = tuple(map(int, creation.get_chunk()))
    if math.prod(chunks) * kind.get_size() > LARGEST_CHUNK:
        raise Unsound(f"{path} is stored in pieces of more than {LARGEST_CHUNK:,} bytes")
    return Stored(shape, kind, chunks, 0)


def _refuse_filters(creation: h5p.PropDCID, itemsize: int, path: str) -> None:
    """All but bitshuffle with LZ4, for elements of this size and with blocks of the usual length."""
    filters = [creation.get_filter(number) for number in range(creation.get_nfilters())]
    for number, _, values, name in filters:
        if number != BITSHUFFLE:
            raise Unsound(f"{path} goes through a filter that is not used in traces: {number} {_text(name)}")
        if len(values) != 5 or values[2] != itemsize or values[3] * itemsize > MAX_BLOCK_BYTES or values[4] != LZ4:
            raise Unsound(f"{path} goes through bitshuffle with {values}")
    if len(filters) > 1:
        raise Unsound(f"{path} goes through {len(filters)} filters")


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")


def refuse_other_kind(found: Mapping[str, Stored], path: str, expected: h5t.TypeID, row: tuple[int, ...]) -> None:
    """That a dataset grows by rows of this kind and shape.

    Raises:
      Unsound: it is not there, or another.
    """
    stored = existing(found, path)
    if stored.chunks is None or stored.shape[1:] != row or len(stored.shape) != 1 + len(row):
        raise Unsound(f"{path} has the shape {stored.shape}; expected rows of {row}")
    if not stored.kind.equal(expected):
        raise Unsound(f"{path} is {_kind_text(stored.kind)}; expected {_kind_text(expected)}")


def existing(found: Mapping[str, Stored], path: str) -> Stored:
    if path not in found:
        raise Unsound(f"{path} is missing")
    return found[path]


def _kind_text(kind: h5t.TypeID) -> str:
    try:
        return str(kind.dtype)
    except Exception:  # h5py has no dtype for it
        return f"a datatype of {kind.get_size()} bytes"
