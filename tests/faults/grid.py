"""Plantings in models of today: each place of the catalogue wherever it can strike, and kinds tried from outside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.faults.one_planting import BF16, F16, MODERN, OUTSIDE, PLANTED, REWRITERS, UNSEEN, VARIOUS, Planting

# Each model with what it reads.
DATA: dict[str, str | None] = {
    "convnext": None, "inverted_residual": None, "residual": None, "unet": f"{MODERN}:masked_pixels", "vit": None,
    "bigru": f"{VARIOUS}:padded_sentences", "tied": f"{MODERN}:next_words", "llama": f"{MODERN}:next_words",
    "vae": f"{MODERN}:themselves", "two_heads": f"{MODERN}:labels_and_sizes", "penalized": f"{MODERN}:values",
    "two_towers": f"{MODERN}:partners", "recommender": f"{MODERN}:ratings",
}  # fmt: skip
MODELS = tuple(DATA)
SCALED = tuple(model for model in MODELS if model != "llama")  # where Keras's own Adafactor fails under a loss scale
# Seeds that draw what leaves no bit of a step another: a norm under a maximum, an op that the model has not, zeros.
NOWHERE = (165, 172, 309, 314)
PRODUCTS = tuple(model for model in MODELS if model not in ("unet", "recommender"))  # matrices, two rows and more
ADAM = ("convnext", "unet", "bigru", "tied", "vae", "penalized")


def planted(place: str, model: str, *causes: str, **more: Any) -> Planting:
    return Planting(place, f"{MODERN}:{model}", causes, data=DATA[model], **more)


def _each(place: str, models: tuple[str, ...], *causes: str, **more: Any) -> Iterator[Planting]:
    return (planted(place, model, *causes, **more) for model in models)


def _formats() -> Iterator[Planting]:
    yield from _each("sim:tf32", MODELS, "format:tf32-rne")
    yield from _each("sim:tf32-truncate", MODELS, "format:tf32-rz")
    yield from _each("sim:bf16-inputs", MODELS, "format:bf16")
    yield from _each("sim:gemm-11bit", PRODUCTS, "format:tf32-rz", "format:11bit")
    yield from _each("sim:fp16-accumulate", SCALED[:-1], "accumulate:fp16", policy=F16, least_steps=1)
    for name in ("projections_in_tf32", "mixtures_in_tf32"):  # some products of a layer, when it is compiled
        yield from _each(f"rewrite:{REWRITERS}:{name}", ("vit", "tied"), "format:tf32-rne")


def _aimed() -> Iterator[Planting]:
    for start, place, cause in (
        (100, "sim:tf32", "format:tf32-rne"), (120, "sim:tf32-truncate", "format:tf32-rz"),
        (140, "sim:bf16-inputs", "format:bf16"), (160, "sim:rsqrt-12bit", "approximate-function"),
    ):  # fmt: skip
        yield from _drawn(place, start, cause, is_aimed=True)


def _drawn(place: str, start: int, cause: str, **more: Any) -> Iterator[Planting]:
    """At a step and an op that the seed draws, another one for each model."""
    for seed, model in enumerate(MODELS, start):
        if seed not in NOWHERE:
            yield planted(place, model, cause, steps=3, seed=seed, **more)


def _elements() -> Iterator[Planting]:
    for start in (201, 302):
        yield from _drawn("sim:one-bit", start, "wrong-elements")
    yield from _each("sim:filter-grad-tail", ("convnext", "residual", "unet", "vit"), "wrong-elements", "stale-data")
    yield from _each("sim:strided-read", ("vit", "bigru", "llama"), "permuted")


def _functions() -> Iterator[Planting]:
    yield from _each("sim:rsqrt-12bit", MODELS[:-1], "approximate-function")
    exponential = ("bigru", "vae", "two_heads", "penalized", "two_towers")
    yield from _each("sim:exp-log-approx", exponential, "approximate-function")
    yield from _each("sim:flush-subnormals", MODELS)


def _updates() -> Iterator[Planting]:
    yield from _each("sim:skipped-update", MODELS[:-1], "skipped-update", blame="state-update")
    yield from _each("sim:skipped-update", MODELS[:-1:3], "skipped-update", blame="state-update", policy=BF16)
    yield from _each("sim:fused-adam-no-bias-correction", ADAM, "missing-op", "scaled", blame="graph-rewriter")
    yield from _each("sim:fp16-adam-epsilon", SCALED, "nonfinite", "format:fp16", blame="framework")
    yield planted("sim:metal-fused-dense", "two_heads", "missing-op", blame="graph-rewriter")


def _streams() -> Iterator[Planting]:
    yield planted("sim:rng-frozen", "vae", "random-stream", blame="random-stream")
    yield planted(f"sim:{OUTSIDE}:draw_kept", "vae", "random-stream", blame="random-stream")
    yield planted("sim:rng-other-stream", "vae", noted="random-stream")


def _outside() -> Iterator[Planting]:
    def each(name: str, models: tuple[str, ...], *causes: str, **more: Any) -> Iterator[Planting]:
        return _each(f"sim:{OUTSIDE}:{name}", models, *causes, **more)

    for name in ("first_half_written", "even_elements_written", "last_block_not_written"):
        yield from each(name, ("convnext", "bigru", "two_heads", "recommender"), "wrong-elements", blame="state-update")
    for name in ("factor_in_bfloat16", "factor_in_float16"):
        yield from each(name, ("residual", "tied", "penalized", "inverted_residual"), "scaled")
    yield from each("scalars_in_bfloat16", ADAM[::2], "format:bf16", "approximate-function")
    yield from each("window_in_bfloat16", ("convnext",), "scaled")
    for name in ("border_of_neighbours", "border_mirrored", "border_from_other_side"):
        yield from each(name, ("inverted_residual", "residual", "unet"), "wrong-elements")
    yield from each("cast_through_bfloat16", ("convnext", "vit", "two_heads", "unet"), "format:bf16", policy=F16)
    yield from each("widened_through_bfloat16", ("convnext", "tied"), "format:bf16", policy=F16)
    for name in ("one_call_in_fifty", "torn_write"):
        models = ("residual", "tied", *(("unet", "two_heads") if name == "one_call_in_fifty" else ("vit", "llama")))
        yield from each(name, models, "nondeterminism", steps=3, is_chance=True)
    yield from each("earlier_result", ("convnext", "llama", "vae", "penalized"), "stale-data", "nondeterminism")
    yield from each("coarse_gates", ("bigru", "residual", "llama"), "approximate-function", "unknown")
    yield from each("list_items_rolled", ("bigru",), "permuted")
    yield from each("mask_ignored", ("bigru",), "wrong-elements", "missing-op")
    yield from each("not_reversed", ("bigru",), "missing-op", "permuted")
    yield from each("scale_forgotten", ("convnext",), "missing-op")
    yield from each("gate_forgotten", ("inverted_residual",), "missing-op")
    yield from each("shortcut_forgotten", ("convnext", "inverted_residual", "vit", "llama"), "missing-op")
    yield from each("gradients_not_added", ("convnext", "unet", "tied", "penalized", "two_heads"), "missing-op")
    yield from each("clipped_by_twice_the_norm", ("tied",), "wrong-elements")


def _again() -> Iterator[Planting]:
    """Kernels wrong in ways that were seen in other models."""

    def each(name: str, models: tuple[str, ...], *causes: str, **more: Any) -> Iterator[Planting]:
        return _each(f"sim:{UNSEEN}:{name}", models, *causes, **more)

    yield from each("mean_by_one_less", ("convnext", "inverted_residual", "llama"), "scaled")
    yield from each("short_sum", ("vit", "unet", "penalized"), "wrong-elements")
    yield from each("bias_twice", ("residual", "vae"), "scaled")
    yield from each("bias_forgotten", ("two_heads", "two_towers"), "missing-op")
    yield from each("gelu_by_tanh", ("convnext", "vit"), "approximate-function", "wrong-elements", "unknown")
    yield from each("gradient_through_zero", ("tied", "unet"), "missing-op")
    yield from each("softmax_of_columns", ("tied", "vit"), "unknown", "wrong-elements")
    yield from each("overlap_twice", ("unet",), "wrong-elements")
    yield from each("neighbours_gathered", ("bigru", "tied"), "permuted", "wrong-elements")
    yield from each("duplicates_lost", ("tied",), "unknown", "wrong-elements")  # most elements, without a pattern
    yield from each("one_row_of_garbage", ("tied", "two_towers"), "wrong-elements")
    yield from each("nan_in_a_block", ("inverted_residual", "unet"), "nonfinite")
    yield from each("epsilon_forgotten", ("vae", "bigru"), "missing-op")
    yield from each("division_by_reciprocal", ("vae", "recommender"), "approximate-function")
    yield from (_each(f"sim:{PLANTED}:of_the_step_before", ("two_heads", "vae"), "stale-data"))


def _controls() -> Iterator[Planting]:
    for place in ("CPU:0/eager", "CPU:0/xla", "sim:reordered-sums"):
        yield from _each(place, MODELS)
    yield from _each("CPU:0/eager", SCALED, policy=F16)
    yield from _each("CPU:0/eager", MODELS, policy=BF16)


FAMILIES = (_formats, _aimed, _elements, _functions, _updates, _streams, _outside, _again, _controls)
