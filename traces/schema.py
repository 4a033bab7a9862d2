"""What a trace holds, declared before the first step: HDF5 allows no new names once readers may look."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from traces.encoding import STORED_DTYPES, Array, can_differ
from traces.names import path_part

SCHEMA_NAME = "lockstep-trace"
SCHEMA_VERSION = 1
NO_LANE = "values"
"""The dataset of a tensor that all lanes share."""

STEP, VIEW = "step", "view"
"""How a tensor is had: the compiled step was watched there, or it is another shape of one that was."""

PACKED = "packed"
"""Under which key of its settings a packed trace says what it is of: `step`, and whether it is `anonymous`."""

SCHEMA = f"{SCHEMA_NAME}/{SCHEMA_VERSION}"

TensorKey = tuple[str, str, str]
"""A tensor's (lane, kind, name), `TensorSpec.key`; a part that does not apply is empty."""


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor, of which a table keeps one value a row.

    Every axis of `shape` is the longest it may get: a last, partial batch is shorter and is read
    back as short as it was. `dtype` is the tensor's own, bfloat16 and float16 included.
    The kinds of a step are "activation", "gradient", "momentum", "velocity" and "update".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    lane: str = ""
    kind: str = ""
    observed: str = STEP

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(map(int, self.shape)))
        if self.dtype not in STORED_DTYPES:
            raise ValueError(f"A trace stores {sorted(STORED_DTYPES)}. Received: {self!r}")

    @property
    def key(self) -> TensorKey:
        return self.lane, self.kind, self.name


@dataclass(frozen=True)
class Column:
    """One column of a table. In an integer column -1 stands for none, in the others NaN and ""."""

    name: str
    dtype: Literal["int64", "float64", "text"]
    width: int | None = None
    """Numbers in a row, where that is not one: the row is then a vector, of the layers for one."""


def op_columns(statistics: Sequence[str]) -> tuple[Column, ...]:
    """The op table's columns, one row per op output, around the names of the statistics taken."""
    return (
        *_integers("step", "index", "output"),
        *_text("phase", "layer", "variable", "op_type", "dtype", "shape"),
        *_judgement(statistics),
    )


def unit_columns(statistics: Sequence[str]) -> tuple[Column, ...]:
    """The unit table's columns, one row per compared tensor of a layer or step unit."""
    return (
        Column("step", "int64"),
        *_text("unit", "phase", "layer", "variable", "dtype", "shape"),
        *_judgement(statistics),
    )


def _integers(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "int64") for name in names)


def _text(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "text") for name in names)


def _judgement(statistics: Sequence[str]) -> tuple[Column, ...]:
    return (*(Column(name, "float64") for name in (*statistics, "bound", "excess")), *_text("verdict"))


NODE_TABLES: Mapping[str, tuple[Column, ...]] = {
    "sources": (*_integers("index", "line"), *_text("file", "function", "text")),
    "nodes": (
        *_integers("index", "program", "source"),
        *_text("name", "op_type", "phase", "layer", "variable", "outputs"),
    ),
    "node_inputs": (*_integers("index", "program", "input", "producer", "output"), *_text("name", "dtype", "shape")),
    "node_attributes": (*_integers("index", "program"), *_text("name", "value")),
}
"""What describes ops (`described.py`): the lines that made them, their names and attributes, and what each reads."""


@dataclass(frozen=True)
class TraceLayout:
    """Everything a run may write.

    `lanes[0]` is the base: any other lane's tensor of the same kind, name, shape and stored dtype is
    kept as its difference from the base's. `tensors` carry lane and kind, `variables` (of model and
    optimizer, for the snapshots) a lane, `batch` (inputs, targets, sample weights) only a name.
    `layers` are what a step's excess is given for, in the order they run. `steps` is how many are
    planned, None where the run is open ended. `describes_ops` says that there are the `NODE_TABLES`: a trace of an
    earlier version has none.
    """

    lanes: tuple[str, ...] = ("reference", "candidate")
    steps: int | None = None
    tensors: tuple[TensorSpec, ...] = ()
    variables: tuple[TensorSpec, ...] = ()
    batch: tuple[TensorSpec, ...] = ()
    layers: tuple[str, ...] = ()
    op_columns: tuple[Column, ...] = op_columns(())
    unit_columns: tuple[Column, ...] = unit_columns(())
    describes_ops: bool = False

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TraceLayout:
        """The inverse of `to_json`."""
        return cls(
            lanes=tuple(document["lanes"]),
            steps=document["steps"],
            tensors=tuple(TensorSpec(**spec) for spec in document["tensors"]),
            variables=tuple(TensorSpec(**spec) for spec in document["variables"]),
            batch=tuple(TensorSpec(**spec) for spec in document["batch"]),
            layers=tuple(document["layers"]),
            op_columns=tuple(Column(**column) for column in document["op_columns"]),
            unit_columns=tuple(Column(**column) for column in document["unit_columns"]),
            describes_ops=document.get("describes_ops", False),
        )

    def __post_init__(self) -> None:
        if not self.lanes:
            raise ValueError("A trace needs at least one lane. Received: lanes=()")
        for spec in (*self.tensors, *self.variables):
            if spec.lane not in self.lanes:
                raise ValueError(f"The lane must be one of {self.lanes}. Received: {spec!r}")
        _refuse_twins(self.layers)
        for specs in (self.tensors, self.variables, self.batch):
            _refuse_twins([spec.key for spec in specs])
        for columns in (self.op_columns, self.unit_columns):
            _refuse_twins([column.name for column in columns])

    @cached_property
    def tables(self) -> dict[str, TableLayout]:
        """The HDF5 groups of the file that grow row by row."""
        base = self.lanes[0]
        losses = tuple(Column(f"loss/{lane}", "float64") for lane in self.lanes)
        step, index, batch, checked = (Column(name, "int64") for name in ("step", "index", "batch", "checked"))
        excess = (Column("excess", "float64", len(self.layers)),) if self.layers else ()
        return {
            "steps": TableLayout((step, batch, checked, *losses, *excess), self.tensors, base),
            "snapshots": TableLayout((step,), self.variables, base),
            "batches": TableLayout((index,), self.batch, base),
            "ops": TableLayout(self.op_columns),
            "units": TableLayout(self.unit_columns),
            **({name: TableLayout(columns) for name, columns in NODE_TABLES.items()} if self.describes_ops else {}),
        }


@dataclass(frozen=True)
class TableLayout:
    """Columns, and tensors of which each row holds one value each."""

    columns: tuple[Column, ...]
    tensors: tuple[TensorSpec, ...] = ()
    base_lane: str = ""

    @cached_property
    def by_key(self) -> dict[TensorKey, TensorSpec]:
        return {spec.key: spec for spec in self.tensors}

    def base_of(self, spec: TensorSpec) -> TensorSpec | None:
        """The base lane's tensor that this one is stored as the difference from, if they are alike."""
        if spec.lane in ("", self.base_lane):
            return None
        base = self.by_key.get((self.base_lane, spec.kind, spec.name))
        stored = STORED_DTYPES[spec.dtype]
        if base is None or base.shape != spec.shape or STORED_DTYPES[base.dtype] != stored:
            return None
        return base if can_differ(stored) else None


@dataclass(frozen=True)
class RunDocuments:
    """What is written of a run at its start; any JSON.

    `environment` is what each lane ran on, by lane; `command` the command line; `settings` how the run was asked
    to go; `model_config` is Keras' own, or None for a model that has none. `created`: when, in UTC, None for now.
    """

    environment: Mapping[str, Mapping[str, object]]
    command: Sequence[str] = ()
    seeds: Mapping[str, int] = field(default_factory=dict)
    model_config: Mapping[str, object] | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    created: str | None = None

    def to_json(self, layout: TraceLayout) -> dict[str, object]:
        """Each document by its name in the file."""
        return {
            **{f"environment/{lane}": dict(self.environment[lane]) for lane in layout.lanes},
            "command": list(self.command),
            "layout": layout.to_json(),
            "seeds": dict(self.seeds),
            "settings": dict(self.settings),
            "model_config": None if self.model_config is None else dict(self.model_config),
        }


@dataclass(frozen=True)
class StepRecord:
    """One whole step: what is written of it, in any lane, in one go.

    `batch` is the index the step's batch was written under. `tensors` may hold any of the layout's. Of
    each its checksum is stored, and of those in `keep` (None: all) the value too, which takes the room. A
    candidate's tensor that is stored as its difference from the reference's can be kept only with that.
    `excess` is, by layer, the largest of the step's errors over their bounds; NaN where none was taken.
    `checked` says that units of the step were run by themselves, not only the whole step compared.
    `checksums` are those of tensors that are not handed over, where they are known.
    """

    step: int
    batch: int
    losses: Mapping[str, float]
    tensors: Mapping[TensorKey, Array] = field(default_factory=dict)
    keep: Collection[TensorKey] | None = None
    excess: Mapping[str, float] = field(default_factory=dict)
    checked: bool = False
    checksums: Mapping[TensorKey, int] = field(default_factory=dict)


def tensor_path(spec: TensorSpec, lanes: Sequence[str]) -> str:
    """Where a tensor lies below its table: KIND/NAME/LANE, so that the lanes of one lie side by side.

    A layer may bear a lane's name inside a model that is itself a layer: it is marked with a
    "%", for HDF5 knows a path either as a group or as a dataset. What HDF5 takes for no name is shortened.
    """
    leaves = {*lanes, NO_LANE}
    parts = [part + "%" if part in leaves else path_part(part) for part in spec.name.split("/")]
    return "/".join(["tensors", *filter(None, [spec.kind]), *parts, spec.lane or NO_LANE])


def stored_shape(spec: TensorSpec) -> tuple[int, ...]:
    """The shape of one row on file: HDF5 has no chunk of an empty axis, so it has length one."""
    return tuple(max(1, length) for length in spec.shape)


def bytes_per_row(spec: TensorSpec) -> int:
    """The room one uncompressed value takes on file."""
    return int(np.prod(stored_shape(spec), dtype=np.int64)) * STORED_DTYPES[spec.dtype].itemsize


def _refuse_twins(names: Sequence[object]) -> None:
    twins = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twins:
        raise ValueError(f"Every name must occur once. Received twice: {sorted(map(str, twins))}")
