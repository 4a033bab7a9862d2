"""Convolutions of integers and their gradients: sizes, paddings, strides, dilations, groups and layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from probes.exact import oracles
from probes.exact.case import Case, case, share_of, sparse
from probes.exact.judging import only_some, sweep
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe

KERNEL_AXES = {2: ("kernel height", "kernel width", "input channel", "output channel")}
IMAGE_AXES = {2: ("batch", "height", "width", "channel")}
Explicit = tuple[tuple[int, int], ...]
Oracle = Callable[..., np.ndarray]


@dataclass(frozen=True)
class ConvolutionShape:
    """One convolution; sizes and kernel have one number for each spatial axis, 2 or 3."""

    batch: int
    sizes: tuple[int, ...]
    inputs: int
    outputs: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...] = ()
    padding: str | Explicit = "SAME"
    dilations: tuple[int, ...] = ()
    groups: int = 1
    channels_first: bool = False

    @property
    def steps(self) -> tuple[int, ...]:
        return self.strides or (1,) * len(self.sizes)

    @property
    def gaps(self) -> tuple[int, ...]:
        return self.dilations or (1,) * len(self.sizes)

    @property
    def image(self) -> tuple[int, ...]:
        return (self.batch, *self.sizes, self.inputs)

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        return (*self.kernel, self.inputs // self.groups, self.outputs)

    @property
    def result(self) -> tuple[int, ...]:
        return (self.batch, *self.geometry.outputs(self.sizes, self.kernel), self.outputs)

    @property
    def geometry(self) -> oracles.Geometry:
        return oracles.Geometry(self.steps, self.padding, self.gaps, self.groups)

    def stored(self, shape: Sequence[int]) -> tuple[int, ...]:
        """An image's shape as the layout has it."""
        return (shape[0], shape[-1], *shape[1:-1]) if self.channels_first else tuple(shape)

    @property
    def label(self) -> str:
        parts = [f"{' x '.join(map(str, self.stored(self.image)))}, kernel {' x '.join(map(str, self.kernel_shape))}"]
        parts.append(self.padding if isinstance(self.padding, str) else f"padding {self.padding}")
        parts += [f"strides {self.strides}"] if self.strides else []
        parts += [f"dilations {self.dilations}"] if self.dilations else []
        parts += [f"{self.groups} groups"] if self.groups > 1 else []
        return ", ".join(parts)

    @property
    def attributes(self) -> str:
        """As tf.raw_ops takes them."""
        first = self.channels_first
        layout = {2: ("NHWC", "NCHW"), 3: ("NDHWC", "NCDHW")}[len(self.sizes)][first]

        def around(spatial: Sequence[int]) -> list[int]:
            return [1, 1, *spatial] if first else [1, *spatial, 1]

        text = f'strides={around(self.steps)}, dilations={around(self.gaps)}, data_format="{layout}", '
        if isinstance(self.padding, str):
            return text + f'padding="{self.padding}"'
        pads = [edge for pair in self.padding for edge in pair]
        pads = [0, 0, 0, 0, *pads] if first else [0, 0, *pads, 0, 0]
        return text + f'padding="EXPLICIT", explicit_paddings={pads}'


@dataclass(frozen=True)
class Kind:
    """An op on such shapes: its text, what it reads, how many terms a sum has, its oracle, the axes of its output."""

    op: str
    text: Callable[[ConvolutionShape], str]
    reads: Callable[[ConvolutionShape], dict[str, tuple[int, ...]]]
    terms: Callable[[ConvolutionShape], int]
    oracle: Callable[[ConvolutionShape], Oracle]
    is_kernel: bool = False


def laid_out(shape: ConvolutionShape, oracle: Oracle) -> Oracle:
    """An oracle that takes and gives images (its first argument, and its result) in the layout of the shape."""
    if not shape.channels_first:
        return oracle
    return lambda image, w: np.moveaxis(oracle(np.moveaxis(image, 1, -1), w), -1, 1)


def kernel_laid_out(shape: ConvolutionShape, oracle: Oracle) -> Oracle:
    """An oracle that takes two images in the layout of the shape and gives a kernel."""
    if not shape.channels_first:
        return oracle
    return lambda x, g: oracle(np.moveaxis(x, 1, -1), np.moveaxis(g, 1, -1))


def _forward(shape: ConvolutionShape) -> Oracle:
    return laid_out(shape, lambda x, w: oracles.convolution(x, w, shape.geometry))


def _to_image(shape: ConvolutionShape) -> Oracle:
    return laid_out(shape, lambda g, w: oracles.gradient_to_image(g, w, shape.image, shape.geometry))


def _to_kernel(shape: ConvolutionShape) -> Oracle:
    return kernel_laid_out(shape, lambda x, g: oracles.gradient_to_kernel(x, g, shape.kernel_shape, shape.geometry))


def kinds(num_axes: int) -> tuple[Kind, Kind, Kind]:
    """A convolution and its two gradients."""
    op, suffix, sizes = {2: ("Conv2D", "", "sizes"), 3: ("Conv3D", "V2", "sizes")}[num_axes]
    to_image, to_kernel = f"{op}BackpropInput{suffix}", f"{op}BackpropFilter{suffix}"
    return (
        Kind(op, lambda s: f"tf.raw_ops.{op}(input=x, filter=w, {s.attributes})",
             lambda s: {"x": s.stored(s.image), "w": s.kernel_shape},
             lambda s: s.inputs // s.groups * _product(s.kernel), _forward),
        Kind(to_image,
             lambda s: f"tf.raw_ops.{to_image}(input_{sizes}={list(s.stored(s.image))}, filter=w, out_backprop=g, "
             f"{s.attributes})",
             lambda s: {"g": s.stored(s.result), "w": s.kernel_shape},
             lambda s: s.outputs // s.groups * _product(s.kernel), _to_image),
        Kind(to_kernel,
             lambda s: f"tf.raw_ops.{to_kernel}(input=x, filter_{sizes}={list(s.kernel_shape)}, out_backprop=g, "
             f"{s.attributes})",
             lambda s: {"x": s.stored(s.image), "g": s.stored(s.result)},
             lambda s: s.batch * _product(s.result[1:-1]), _to_kernel, is_kernel=True),
    )  # fmt: skip


def _product(numbers: Sequence[int]) -> int:
    return int(np.prod(numbers, dtype=int))


def convolution_case(kind: Kind, shape: ConvolutionShape, dtype: str) -> Case:
    share = share_of(kind.terms(shape), dtype)
    reads = kind.reads(shape)
    inputs = {name: sparse(7 * number + sum(size), size, share) for number, (name, size) in enumerate(reads.items())}
    axes = (KERNEL_AXES if kind.is_kernel else IMAGE_AXES).get(len(shape.sizes), ())
    if shape.channels_first and axes and not kind.is_kernel:
        axes = (axes[0], axes[-1], *axes[1:-1])
    return case(
        shape.label, kind.text(shape), inputs, kind.oracle(shape), axes=axes, is_sum=True,
        tolerates=max(shape.kernel) > 1,
    )  # fmt: skip


SIZES = (
    ConvolutionShape(1, (5, 5), 1, 1, (1, 1)),
    ConvolutionShape(3, (15, 17), 3, 16, (3, 3)),
    ConvolutionShape(2, (16, 16), 31, 33, (3, 3)),
    ConvolutionShape(1, (33, 31), 15, 17, (5, 5), padding="VALID"),
    ConvolutionShape(1, (7, 9), 127, 129, (3, 3)),
    ConvolutionShape(5, (8, 9), 32, 64, (3, 3)),
    ConvolutionShape(1, (4, 4), 1023, 17, (1, 1)),
    ConvolutionShape(2, (3, 3), 17, 1025, (3, 3)),
    ConvolutionShape(7, (129, 1), 2, 3, (7, 1)),
    ConvolutionShape(1, (1, 1), 3, 2, (3, 3)),  # more kernel than image
    ConvolutionShape(1, (2, 65), 5, 513, (1, 3)),
)
EXTREMES = (
    ConvolutionShape(0, (5, 5), 3, 4, (3, 3)),
    ConvolutionShape(1, (1, 2), 32769, 2, (1, 1)),
    ConvolutionShape(1, (2, 1), 65537, 3, (1, 1)),
    ConvolutionShape(1, (1, 2), 2, 65537, (1, 1)),
    ConvolutionShape(1, (3, 65537), 1, 2, (1, 3)),
    ConvolutionShape(2051, (2, 2), 3, 5, (2, 2)),
)
PADDINGS = tuple(
    ConvolutionShape(2, sizes, 5, 7, kernel, padding=padding)
    for sizes, kernel, padding in (
        ((9, 10), (3, 3), "VALID"),
        ((9, 10), (2, 4), "SAME"),
        ((6, 7), (5, 2), "VALID"),
        ((9, 10), (3, 3), ((1, 1), (1, 1))),
        ((9, 10), (3, 3), ((2, 0), (0, 3))),
        ((8, 7), (4, 1), ((0, 1), (2, 2))),
    )
)
STRIDES = tuple(
    ConvolutionShape(2, sizes, 6, 8, kernel, strides=strides, padding=padding)
    for sizes, kernel, strides, padding in (
        ((16, 16), (3, 3), (2, 2), "SAME"),
        ((15, 17), (3, 3), (2, 2), "SAME"),
        ((17, 17), (3, 3), (2, 2), "VALID"),
        ((33, 31), (7, 7), (4, 4), "SAME"),
        ((9, 9), (1, 1), (2, 2), "SAME"),  # a stride beyond the kernel
        ((11, 10), (2, 2), (3, 3), "VALID"),
        ((13, 14), (3, 3), (2, 2), ((1, 0), (2, 1))),
        ((12, 15), (3, 2), (1, 2), "SAME"),
        ((12, 15), (3, 2), (3, 1), "VALID"),
    )
)
DILATIONS = tuple(
    ConvolutionShape(2, sizes, 4, 6, kernel, padding=padding, dilations=dilations)
    for sizes, kernel, dilations, padding in (
        ((16, 16), (3, 3), (2, 2), "SAME"),
        ((17, 15), (3, 3), (2, 2), "VALID"),
        ((17, 19), (3, 3), (3, 3), "SAME"),
        ((33, 16), (3, 2), (4, 1), "SAME"),
        ((16, 17), (2, 3), (1, 2), "VALID"),
    )
)
GROUPS = tuple(
    ConvolutionShape(2, (9, 10), inputs, outputs, (3, 3), groups=groups)
    for inputs, outputs, groups in ((6, 9, 3), (16, 16, 2), (32, 32, 32), (34, 17, 17))
)


def channels_first(shapes: Sequence[ConvolutionShape]) -> tuple[ConvolutionShape, ...]:
    return tuple(replace(each, channels_first=True) for each in shapes)


LAYOUT = channels_first((*SIZES[1:6], *PADDINGS[:4], *STRIDES[:5:2], *DILATIONS[:2], *GROUPS[:2]))
SWEEPS: dict[str, tuple[ConvolutionShape, ...]] = {
    "sizes": SIZES,
    "extreme sizes": EXTREMES,
    "paddings": PADDINGS,
    "strides": STRIDES,
    "dilations": DILATIONS,
    "groups": GROUPS,
    "layout NCHW": LAYOUT,
}
NARROW_SWEEPS: dict[str, tuple[ConvolutionShape, ...]] = {
    "sizes": (*SIZES[1::2], *EXTREMES[:4]),
    "paddings, strides": (*PADDINGS[::2], *STRIDES[::2]),
    "dilations, groups": (*DILATIONS[::2], *GROUPS[:3:2]),
    "layout NCHW": LAYOUT[::2],
}
VOLUMES = (
    ConvolutionShape(1, (5, 6, 7), 3, 4, (3, 3, 3)),
    ConvolutionShape(2, (7, 8, 9), 15, 17, (2, 3, 1), padding="VALID"),
    ConvolutionShape(1, (9, 9, 8), 5, 6, (3, 3, 3), strides=(2, 2, 2)),
    ConvolutionShape(3, (4, 4, 33), 2, 3, (1, 2, 5), strides=(1, 1, 2), padding="VALID"),
    ConvolutionShape(1, (2, 2, 2), 33, 513, (1, 1, 1)),
    ConvolutionShape(1, (7, 7, 7), 2, 3, (2, 2, 2), dilations=(2, 2, 2)),
    ConvolutionShape(0, (3, 3, 3), 2, 3, (2, 2, 2)),
)


def probes(choice: Choice) -> Iterator[Probe]:
    for kind in kinds(2):
        for dtype in (*FLOAT_DTYPES, *(["int32"] if kind.op == "Conv2D" else [])):
            for name, shapes in (SWEEPS if dtype == "float32" else NARROW_SWEEPS).items():
                cases = [convolution_case(kind, each, dtype) for each in shapes]
                yield sweep(kind.op, dtype, name, only_some(choice, cases, dtype))
    for kind in kinds(3):
        for dtype in FLOAT_DTYPES:
            for name, shapes in (("shapes", VOLUMES), ("layout NCDHW", channels_first(VOLUMES[:4]))):
                if dtype == "float32" or name == "shapes":
                    cases = [convolution_case(kind, each, dtype) for each in shapes]
                    yield sweep(kind.op, dtype, name, only_some(choice, cases, dtype))
