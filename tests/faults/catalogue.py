"""What is planted where, and what the program has to say of it: FAULT x MODEL -> cause, blame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.faults import grid
from tests.faults.one_planting import BF16, F16, PLANTED, REWRITERS, STREAMS, UNSEEN, VARIOUS, Planting, own, zoo

ALL = tuple(map(zoo, ("cnn", "mlp", "xception_block", "lstm", "transformer")))
CNN, MLP, XCEPTION, LSTM, TRANSFORMER = ALL


def _formats() -> Iterator[Planting]:
    for place, cause in (
        ("sim:tf32", "format:tf32-rne"), ("sim:tf32-truncate", "format:tf32-rz"), ("sim:bf16-inputs", "format:bf16"),
    ):  # fmt: skip
        yield from (Planting(place, model, (cause,)) for model in ALL)
    yield from (Planting("sim:gemm-11bit", model, ("format:tf32-rz", "format:11bit")) for model in ALL)
    summing = (CNN, own("broad"), own("many_channels"), LSTM, TRANSFORMER)
    yield from (
        Planting("sim:fp16-accumulate", model, ("accumulate:fp16",), policy=F16, least_steps=1) for model in summing
    )


def _aimed() -> Iterator[Planting]:
    """At a step and an op that the seed draws, none of them the first that the fault could strike."""
    for seed, (place, cause) in enumerate(
        (("sim:tf32", "format:tf32-rne"), ("sim:tf32-truncate", "format:tf32-rz"), ("sim:bf16-inputs", "format:bf16"))
    ):
        yield from (
            Planting(place, model, (cause,), steps=3, seed=10 * seed + number, is_aimed=True)
            for number, model in enumerate(ALL)
        )
    for number, model in enumerate(ALL):
        yield Planting("sim:rsqrt-12bit", model, ("approximate-function",), steps=3, seed=40 + number, is_aimed=True)
    for number, model in enumerate((MLP, TRANSFORMER)):  # those of an LSTM are in its loop
        yield Planting("sim:exp-log-approx", model, ("approximate-function",), steps=3, seed=50 + number, is_aimed=True)
    yield Planting("sim:filter-grad-tail", CNN, ("wrong-elements", "stale-data"), steps=3, seed=61, is_aimed=True)


def _fusions() -> Iterator[Planting]:
    relu = zoo("perceptron")
    yield from (Planting("sim:metal-fused-dense", m, ("missing-op",), "graph-rewriter") for m in (CNN, MLP, relu))
    yield from (Planting("sim:metal-fused-dense", m, ("missing-op",), "graph-rewriter", F16) for m in (CNN, MLP))
    yield from (
        Planting("sim:fused-adam-no-bias-correction", m, ("missing-op", "scaled"), "graph-rewriter") for m in ALL
    )


def _elements() -> Iterator[Planting]:
    yield Planting("sim:conv1d-last-channel", own("wide"), ("wrong-elements",))
    yield Planting("sim:topk-16", own("sorting"), ("wrong-elements",))
    yield from (Planting("sim:filter-grad-tail", m, ("wrong-elements", "stale-data")) for m in (CNN, XCEPTION))
    yield from (Planting("sim:strided-read", m, ("permuted",)) for m in (LSTM, own("turned")))
    for model in ALL:
        yield from (Planting("sim:one-bit", model, ("wrong-elements",), steps=3, seed=s) for s in range(4))
    # The bit is the last of a float16's, which in a sum of float16 is a rounding; this seed draws a product.
    yield Planting("sim:one-bit", MLP, ("wrong-elements",), policy=F16, steps=3, seed=7)
    yield from (Planting("sim:one-bit", m, ("wrong-elements",), policy=BF16, steps=3, seed=8) for m in (MLP, LSTM))
    yield Planting("sim:filter-grad-tail", CNN, ("wrong-elements", "stale-data"), policy=F16)
    # Four pixels of 100, the CNN's tail, are less than is lost where sums are in bfloat16, as with AMX; here it is all.
    yield Planting("sim:filter-grad-tail", XCEPTION, ("wrong-elements", "stale-data"), policy=BF16)


def _updates() -> Iterator[Planting]:
    yield from (Planting("sim:skipped-update", m, ("skipped-update",), "state-update") for m in ALL)
    yield from (Planting("sim:skipped-update", m, ("skipped-update",), "state-update", BF16) for m in (CNN, MLP))
    yield from (Planting("sim:skipped-update", m, ("skipped-update",), "state-update", F16) for m in (MLP, LSTM))
    yield Planting("sim:ignored-found-inf", own("deep"), ("nonfinite",), "state-update", F16)
    yield from (Planting("sim:fp16-adam-epsilon", m, ("nonfinite", "format:fp16"), "framework") for m in ALL)


def _streams() -> Iterator[Planting]:
    dropout = (CNN, TRANSFORMER)
    yield from (Planting("sim:rng-frozen", m, ("random-stream",), "random-stream") for m in dropout)
    yield from (Planting("sim:rng-other-stream", m, noted="random-stream") for m in dropout)
    noisy = f"{VARIOUS}:noisy"

    def planted(name: str, model: str = noisy, steps: int = 3, **more: Any) -> Planting:
        return Planting(f"sim:{STREAMS}:{name}", model, ("random-stream",), "random-stream", steps=steps, **more)

    yield from map(planted, ("clipped", "nine_tenths", "second_half_again", "one_mask", "one_in_eight_is_zero"))
    yield planted("opposite_mask")
    yield planted("nine_tenths", CNN, steps=8)
    yield planted("every_third_step", steps=4)
    yield from (Planting(f"sim:{STREAMS}:numpys", m, noted="random-stream", steps=12) for m in (noisy, TRANSFORMER))


def _functions() -> Iterator[Planting]:
    yield from (Planting("sim:exp-log-approx", m, ("approximate-function",)) for m in (MLP, LSTM))
    yield from (Planting("sim:rsqrt-12bit", m, ("approximate-function",)) for m in ALL)
    yield from (Planting("sim:flush-subnormals", m, ("subnormal-flush",), policy=F16) for m in (LSTM, TRANSFORMER))
    yield from (Planting("sim:flush-subnormals", m) for m in ALL)


def _history() -> Iterator[Planting]:
    pairs = ((CNN, "seven_images"), (MLP, "seven_rows"), (XCEPTION, "seven_blocks"), (TRANSFORMER, "seven_sentences"))
    yield from (Planting("sim:stale-partial-batch", m, ("stale-data",), data=data) for m, data in pairs)


def _own() -> Iterator[Planting]:
    def planted(name: str, model: str, *causes: str, blame: str = "kernel") -> Planting:
        return Planting(f"sim:{PLANTED}:{name}", model, causes, blame)

    broad = own("broad")
    yield planted("factor", broad, "scaled")
    yield planted("rolled", CNN, "permuted")
    yield planted("halves_swapped", broad, "permuted")
    yield planted("fourth_columns", broad, "wrong-elements")
    yield planted("block_dropped", broad, "wrong-elements")
    yield planted("bf16_sums", broad, "accumulate:bf16")
    yield planted("three_products", MLP, "format:bf16x3")
    yield planted("of_the_step_before", broad, "stale-data")
    yield planted("of_the_step_before_elsewhere", broad, "stale-data")
    yield planted("half_the_time", broad, "nondeterminism")
    yield planted("tanh_in_float16", MLP, "format:fp16", blame="framework")


def _unseen() -> Iterator[Planting]:
    """What no place of the catalogue does, in models of many kinds."""
    sentences = f"{VARIOUS}:padded_sentences"

    def kernel(name: str, model: str, *causes: str, blame: str = "kernel", data: str | None = None) -> Planting:
        return Planting(f"sim:{UNSEEN}:{name}", f"{VARIOUS}:{model}", causes, blame, data=data)

    yield kernel("padded_one_off", "pictures", "permuted", "unknown")  # but for the border, one pixel off
    yield kernel("correlated_not_convolved", "pictures", "permuted")
    yield kernel("weight_transposed", "square", "permuted")
    yield kernel("wrong_depthwise_channel", "pictures", "permuted")
    yield kernel("inner_thirds", "volumes", "wrong-elements")
    yield kernel("overlap_twice", "pictures", "wrong-elements")
    yield kernel("mean_by_one_less", "series", "scaled")
    yield kernel("pool_counts_padding", "pictures", "wrong-elements")
    yield kernel("short_sum", "volumes", "wrong-elements")
    yield kernel("duplicates_lost", "picking", "wrong-elements")
    yield kernel("bias_twice", "square", "scaled")
    yield kernel("bias_forgotten", "square", "missing-op")
    yield kernel("gelu_by_tanh", "series", "approximate-function", "wrong-elements", "unknown")
    yield kernel("softmax_of_columns", "attentive", "unknown", data=sentences)
    yield kernel("leakier", "pictures", "wrong-elements")
    yield kernel("unclipped", "pictures", "wrong-elements", "unknown")
    yield kernel("gradient_through_zero", "square", "missing-op")
    yield kernel("in_fixed_point", "series", "unknown")
    yield kernel("through_integers", "series", "unknown")
    yield kernel("division_by_reciprocal", "volumes", "approximate-function")
    yield kernel("nan_in_a_block", "pictures", "nonfinite")
    yield kernel("mask_row_ignored", "attentive", "wrong-elements", data=sentences)
    yield kernel("last_of_ties", "picking")
    yield kernel("second_best", "picking", "unknown")
    yield kernel("neighbours_gathered", "picking", "permuted", "wrong-elements")
    yield kernel("exclusive_sum", "picking", "wrong-elements", "unknown", "permuted")
    yield kernel("other_order", "picking", "permuted")
    yield kernel("gates_swapped", "series", "permuted")
    yield kernel("padded_with_ones", "series", "wrong-elements")
    yield kernel("runner_up_paid", "pictures", "permuted")
    yield kernel("one_row_of_garbage", "square", "wrong-elements")
    yield kernel("sign_lost", "square", "wrong-elements")
    yield kernel("decays_twice", "volumes", "scaled", blame="state-update")
    yield kernel("forgets_to_decay", "volumes", "skipped-update", blame="state-update")
    yield kernel("epsilon_forgotten", "volumes", "missing-op")
    yield kernel("gradient_unscaled", "series", "missing-op")
    yield kernel("averages_the_wrong_way", "pictures", "scaled")
    yield kernel("average_not_moved", "pictures", "skipped-update", blame="state-update")
    yield kernel("sign_of_zero_gradient", "square", "wrong-elements")
    yield from (kernel(name, "choosing") for name in ("other_ties", "last_of_ties"))
    yield kernel("first_of_ties_again", "choosing", "wrong-elements", "unknown", "permuted", "stale-data")
    yield from (kernel("other_signs", name) for name in ("spectral", "signed"))
    yield kernel("vectors_not_orthogonal", "spectral", "wrong-elements", "approximate-function", "unknown", "format")
    yield kernel("last_vector_lost", "spectral", "wrong-elements", "unknown")
    wrong = ("unknown", "scaled", "wrong-elements", "permuted", "approximate-function", "missing-op")
    names = ("variance_over_one_less", "variance_not_centred", "epsilon_of_another", "gradient_without_its_mean")
    yield from (kernel(name, "narrow", *wrong) for name in (*names, "resized_from_corners", "response_of_fewer"))
    yield kernel("product_in_float32", "double", "format:fp32", blame="framework")


def _rewritten() -> Iterator[Planting]:
    """What a compiled step does and its ops do not, in the same models."""

    def rewriter(name: str, model: str, *causes: str, blame: str = "graph-rewriter") -> Planting:
        return Planting(f"rewrite:{REWRITERS}:{name}", f"{VARIOUS}:{model}", causes, blame)

    yield rewriter("activation_twice", "square", "unknown")
    yield rewriter("normalization_folded", "pictures", "missing-op")
    yield rewriter("branch_in_tf32", "branches", "format:tf32-rne", blame="kernel")


def _controls() -> Iterator[Planting]:
    yield Planting("sim:winograd-4x4", own("many_channels"))
    for name in ("narrow", "double", "spectral"):
        yield from (Planting(place, f"{VARIOUS}:{name}") for place in ("CPU:0/eager", "CPU:0/xla"))
    yield from (Planting("sim:reordered-sums", m) for m in ALL)
    yield from (Planting("CPU:0/eager", m) for m in ALL)
    yield from (Planting("CPU:0/xla", m) for m in ALL if m != LSTM)  # whose loop XLA does not compile
    for policy in (F16, BF16):
        yield from (Planting(place, m, policy=policy) for m in ALL for place in ("CPU:0/eager", "sim:reordered-sums"))


def plantings() -> list[Planting]:
    families = (
        _formats, _aimed, _fusions, _elements, _updates, _streams, _functions, _history, _own, _unseen, _rewritten,
        _controls,
        *grid.FAMILIES,
    )  # fmt: skip
    return [planting for family in families for planting in family()]
