"""One run of the lockstep, step by step: both lanes, then their units, then the ops of what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from diag.common.wording import first_few
from diag.engine.graphs.tf_errors import reason as short_reason
from diag.engine.graphs.tf_errors import reason_of
from diag.engine.lanes.lane import Lane
from diag.engine.lanes.step_results import StepRun, UnitRun
from diag.engine.localization.fused import FusedFaults
from diag.engine.lockstep.history import History
from diag.engine.lockstep.propagated import Propagated
from diag.engine.lockstep.telescope import Telescope
from diag.engine.rewrites.around import rewrites_around
from diag.engine.runs.attention import Attention
from diag.engine.runs.findings import Findings
from diag.engine.runs.finished_step import FinishedStep
from diag.engine.runs.other_choices import layers_that_chose_otherwise
from diag.engine.runs.random_draws import RandomStreams, drawn_of
from diag.engine.runs.reruns import is_hidden_by_watching, unlike_itself
from diag.engine.runs.result import result_of
from diag.engine.runs.settings import RunPlan, Settings
from diag.engine.runs.twins import Twins
from diag.engine.runs.two_models import TwoModels
from diag.engine.runs.updates import study_updates
from diag.engine.runs.zooming import Zoom
from diag.engine.step.batch import Batch
from diag.engine.step.description import described_ops
from diag.engine.step.program import Program
from diag.engine.step.tracing import BatchKey, flat_batch, key_of
from diag.engine.step.watching import described
from diag.engine.training.second_model import SecondModel
from diag.errors import UserError
from diag.numerics.figures import PairStatistics
from diag.report.made_at import with_lines
from diag.verdict.findings import Divergence, Observation, Verdict
from diag.verdict.result import RunResult

Progress = Callable[[int, str, float, float], None]


ON_XLA = "XLA_"
"""In what XLA says of an op that it cannot compile stands the device, XLA_CPU_JIT for one."""


# How XLA says that it cannot compile a step; the last where its own verifier refuses what it made of it.
UNSUPPORTED = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError)


class LockstepRun:
    """One model, two places, the same batches."""

    def __init__(
        self,
        programs: Callable[[Batch], Program],
        batches: Any,
        settings: Settings,
        progress: Progress | None = None,
        reference: Lane | None = None,
        second: SecondModel | None = None,
    ) -> None:
        """second: the model whose weights the candidate has; without one both lanes begin with the same."""
        self.programs, self.batches, self.settings = programs, batches, settings
        first = batches[settings.first_step]
        self.progress: Progress = progress or (lambda step, doing, reference, candidate: None)
        self.program: Program = programs(first)
        self.reference = reference or Lane.at("reference", settings.reference, self.program, settings.seed)
        self.candidate = Lane.at("candidate", settings.candidate, self.program, settings.seed)
        self.twins = Twins(settings.reference, settings.seed, settings.twins) if settings.twins else None
        self.findings = Findings()
        self.attention = Attention(self.findings, settings.follow, settings.units)
        self.streams = RandomStreams()
        self.history = History(settings.candidate)
        self.zoom = Zoom(settings, (self.reference, self.candidate), self.findings, self.streams, self.history)
        self.next_step = settings.first_step
        self.telescopes: dict[BatchKey, Telescope] = {}
        self.began: dict[BatchKey, int] = {}  # the first step with a batch of these shapes
        telescope = self.telescope_for(first, settings.first_step, self.program)
        self.models = None if second is None else TwoModels(second, telescope, self.findings)

    @property
    def lanes(self) -> tuple[Lane, Lane]:
        """The reference and the candidate."""
        return self.reference, self.candidate

    def telescope_for(self, batch: Batch, number: int, program: Program | None = None) -> Telescope:
        """The telescope for the shapes of a step's batch; a smaller last batch gets a program of its own."""
        key = key_of(flat_batch(batch))
        if key not in self.telescopes:
            program = program or self.programs(batch)
            telescope = Telescope(program, self.reference, self.candidate)
            if self.streams.are_shared:
                telescope.steps.share_random_outputs()
            if not self.telescopes:
                self.findings.note(described(telescope.program))
            self.telescopes[key], self.began[key] = telescope, number
            for name, reason in telescope.cut.uncut.items():
                self.findings.note(f"{name} is no unit of its own: {reason}")
        return self.telescopes[key]

    @property
    def plan(self) -> RunPlan:
        """What is known before the first step."""
        first = self.batches[self.settings.first_step]
        units = self.telescopes[key_of(flat_batch(first))].cut.units
        return RunPlan(
            self.program,
            self.settings,
            {lane.name: lane.environment() for lane in self.lanes},
            flat_batch(first),
            sum(len(unit.outputs) + len(unit.writes) for unit in units),
        )

    # -- the loop --------------------------------------------------------------------------------

    def run(self) -> RunResult:
        """All steps, and the result."""
        for _ in self.steps():
            pass
        return self.result()

    def steps(self) -> Iterator[FinishedStep]:
        """Each step when it is finished, and the run ready for the next.

        Raises:
          UserError: the candidate cannot run the step.
        """
        for number in range(self.next_step, self.settings.numbers.stop):
            step = self.step(number, self.batches[number])
            self.next_step, losses = number + 1, step.losses
            yield step
            del step  # its tensors go before those of the next come
            self.progress(number + 1, "comparing the places", *losses)

    def step(self, number: int, batch: Batch) -> FinishedStep:
        """One step, from the state that the lanes are in.

        Raises:
          UserError: the candidate cannot run it, or no place can.
        """
        telescope, values = self.telescope_for(batch, number), [tf.constant(value) for value in flat_batch(batch)]
        self.reference.begin(number)
        self._align()
        try:
            step = self._one_step(number, telescope, values)
        except tf.errors.OpError as error:
            if ON_XLA not in reason_of(error) and telescope.steps.fails_unwatched(values):
                raise UserError(
                    f"step {number} fails as the model is, at the reference as well: {short_reason(error)}; "
                    "`fit` would as well"
                ) from error
            raise self._reason(error, number) from error
        self._check_faults()
        for losses, loss in zip(self.findings.losses.values(), step.losses, strict=True):
            losses.append(loss)
        self.history.remember(number, telescope.program, step.run.reference.before, step.run.batch)
        return step

    def result(self, is_final: bool = True) -> RunResult:
        """What the steps so far led to; in the end with the lines of what is wrong, and what TensorFlow made of it."""
        result = result_of(self.findings, self.settings, self.lanes, self.twins)
        first = result.first_divergence
        if not is_final or first is None:
            return result
        result = with_lines(result, {op.index: op for op in described_ops(self.program)})
        return replace(result, rewrites=rewrites_around(first, self.program, self.lanes[1]))

    def _check_faults(self) -> None:
        for lane in self.lanes:
            if lane.simulation is not None:
                lane.simulation.check()

    def _reason(self, error: tf.errors.OpError, step: int) -> Exception:
        """Why TensorFlow gave up: a step XLA cannot compile, or its own message."""
        place, reason = self.settings.candidate, reason_of(error)
        unsupported = isinstance(error, UNSUPPORTED)
        if unsupported and place.execution == "xla" and step == self.settings.first_step:
            return UserError(f"{place}: XLA cannot compile this step: {short_reason(error)}")
        if unsupported and ON_XLA in reason:
            return UserError(
                f"XLA cannot compile a function of the model's own that asks for it (jit_compile=True): "
                f"{short_reason(error)}"
            )
        if place.is_simulated:
            return UserError(f"{place}: step {step} fails with the fault planted in it: {reason}")
        return error  # type: ignore[no-any-return]

    def _align(self) -> None:
        """Both lanes start a step from one state, unless each follows its own."""
        if self.settings.follow == "reference":
            self.candidate.load(self.reference.state())
        elif self.settings.follow == "candidate":
            self.reference.load(self.candidate.state())

    # -- one step --------------------------------------------------------------------------------

    def _one_step(self, number: int, telescope: Telescope, batch: Sequence[Any]) -> FinishedStep:
        run, propagated = self._settled_run(number, telescope, batch)
        step = FinishedStep(run, telescope)
        self._judge(step, propagated)
        self.findings.see_units(step.observations)
        if self.models is not None:
            self.models.see(telescope, run)
        self.attention.learn(propagated, run.with_boundaries, not step.flagged)
        if self.settings.units == "op" or self.attention.calls_for_microscope(step.observations):
            self.progress(number, "judging every op", *step.losses)
            self._zoom(step)
            self.attention.looked(step.observations)
        self.attention.saw(step.observations)
        self._step_twins(step)
        return step

    def _settled_run(self, number: int, telescope: Telescope, batch: Sequence[Any]) -> tuple[StepRun, Propagated]:
        """Both lanes through the step, until one run of it can be judged.

        Again where they drew other random numbers, where it differs more than it should and was not to be checked, and
        where watching hides what is wrong.
        """
        steps, is_by_step, is_first = telescope.steps, self.settings.units == "step", number == self.settings.first_step
        run = steps.run(number, batch, not is_by_step and number % self.settings.checks == 0, is_first)
        self._check_faults()
        if self._streams_disagree(telescope, run):
            run = steps.run_again(run, run.with_boundaries, is_first)
        propagated = steps.propagated(run)
        self.findings.any_bit_differs |= propagated.any_differs
        if not run.with_boundaries and not is_by_step and self.attention.is_suspicious(propagated):
            run = steps.run_again(run, with_boundaries=True, with_unwatched=is_first)
            self.findings.note(
                f"step {number} was checked because it differed more than steps before it that are explained"
            )
        if is_first and is_hidden_by_watching(telescope, run, self._judge_step, self.findings.note):
            run = steps.run_again(run, run.with_boundaries)
            propagated = steps.propagated(run)
        return run, propagated

    def _streams_disagree(self, telescope: Telescope, run: StepRun) -> bool:
        """Whether the lanes drew other random numbers, for the first time: from then on they are shared."""
        were_shared = self.streams.are_shared
        draws = drawn_of(telescope.program.graph, telescope.steps.drawn(run))
        for divergence in self.streams.judge(run.step, draws):
            self.findings.add(divergence)
        for text in self.streams.notes:
            self.findings.note(text)
        self.findings.random_streams = self.streams.reported()
        if were_shared or not self.streams.are_shared:
            return False
        self.findings.any_bit_differs = True
        for each in self.telescopes.values():
            each.steps.share_random_outputs()
        return True

    # -- judging ---------------------------------------------------------------------------------

    def _judge(self, step: FinishedStep, propagated: Propagated) -> None:
        """The observations of a step's units, or of the whole step where it is judged as one."""
        run = step.run
        if self.settings.units == "step":
            step.observations += self._judge_whole(step, propagated)
            return
        if not run.with_boundaries:
            return
        step.judge_units(run.step == self.settings.first_step, propagated)
        if step.flagged or self.findings.divergences:
            return
        wrong = [o for o in self._judge_whole(step, propagated) if o.excess > 1]
        if wrong and not self._is_unlike_itself(step, propagated, wrong) and not self._has_other_choices(step):
            step.observations += wrong

    def _has_other_choices(self, step: FinishedStep) -> bool:
        layers = layers_that_chose_otherwise(step.telescope, step.run)
        if layers:
            self.findings.note(
                f"vectors or winners in {', '.join(layers)} are not those of the reference, or of float64, at step "
                f"{step.run.step} (decision-flip), and right by what defines them: the step as a whole is not judged"
            )
        return bool(layers)

    def _is_unlike_itself(self, step: FinishedStep, propagated: Propagated, wrong: Sequence[Observation]) -> bool:
        """Whether a step that is wrong with every unit right by itself computed from more than it was given."""
        if self.settings.follow == "free" or not self.attention.is_suspicious(propagated):
            return False
        telescope = step.telescope
        unlike = unlike_itself(telescope, step.run)
        if unlike is None:
            return False
        output = telescope.judge.output_of(unlike.port, telescope.whole_unit, wrong)
        if output is None:
            return False
        self.findings.add(Divergence.of(output.where, unlike.cause, "kernel", output.excess))
        return True

    def _judge_whole(self, step: FinishedStep, propagated: Propagated) -> list[Observation]:
        """The step as one unit, against truth; only where it differs and both lanes started from one state."""
        if self.models is not None:  # whose weights differ, so that the whole of each is another
            return []
        is_later = step.run.step > self.settings.first_step
        if is_later and (self.settings.follow == "free" or not self.attention.is_suspicious(propagated)):
            return []
        if self.settings.units != "step" and not propagated.any_differs:
            return []
        return self._judge_step(step.telescope, step.telescope.whole_step_run(step.run), True, propagated)

    def _judge_step(
        self, telescope: Telescope, whole: UnitRun, truth_wanted: bool, propagated: Mapping[Any, PairStatistics]
    ) -> list[Observation]:
        """A whole step; the first time that there is truth of its gradients, also what Adam made of them."""
        program, adam = telescope.program, self.settings.adam
        kept = program.gradients.values() if adam is not None and not self.findings.updates else ()
        observations, truths = telescope.judge.judge_with_truth(whole, truth_wanted, propagated, kept)
        if truths and adam is not None:
            self.findings.updates = study_updates(adam, program, whole.run, truths)
        return observations

    # -- closer looks ----------------------------------------------------------------------------

    def _zoom(self, step: FinishedStep) -> None:
        """One step under the microscope, from the state before it, and then what only compiling shows."""
        run, telescope, flagged = step.run, step.telescope, step.flagged
        ops, innocent = self.zoom(telescope.program, run)
        guilty = [o for o in ops if o.verdict is Verdict.DIVERGENCE]
        is_first = not any(d.fused is not None and d.fused.region for d in self.findings.divergences)  # one says enough
        fused = FusedFaults(telescope, run, step.wrong_units)
        for divergence in fused.divergences(flagged, [*guilty, *innocent], ops, with_region=is_first):
            self.findings.add(divergence)
        self.attention.explain(fused.explained)
        if flagged and not self.findings.path:
            self.findings.path = list(flagged)
        step.ops += ops

    def _step_twins(self, step: FinishedStep) -> None:
        twins = self.twins
        if twins is None:
            return
        twins.step(step.run, step.telescope.program, self.lanes)
        if twins.candidate_has_left and twins.looked_closer is None and not self.findings.divergences:
            twins.look_closer_at(step.run.step)
            self._look_closer(step)

    def _look_closer(self, step: FinishedStep) -> None:
        """A step in which the candidate left the twins' envelope with nothing known to be wrong.

        Every unit and every op of it from the reference's state and, since a fault may lie on the
        candidate's path alone, from the candidate's.
        """
        run, telescope = step.run, step.telescope
        for state in (run.reference.before, run.candidate.before):
            closer = FinishedStep(telescope.steps.run_from(state, state, run, with_boundaries=True), telescope)
            propagated = telescope.steps.propagated(closer.run)
            closer.judge_units(True, propagated)
            if not closer.flagged:
                whole = telescope.judge.judge(telescope.whole_step_run(closer.run), True, propagated)
                closer.observations += [o for o in whole if o.excess > 1]
            self.findings.see_units(closer.observations)
            self.attention.learn(propagated, True, not closer.flagged)
            self._zoom(closer)
            step.ops += closer.ops
            if self.findings.divergences:
                break
        else:
            self._note_not_reproduced(telescope.steps.not_reproduced(run, closer.run), run.step)
        self.reference.load(run.reference.after)
        self.candidate.load(run.candidate.after)

    def _note_not_reproduced(self, variables: Sequence[str], step: int) -> None:
        if variables:
            self.findings.note(
                f"step {step} of the candidate, run again from its own state on the same batch, leaves other bits in "
                f"{len(variables)} of {len(self.program.variables)} variables ({first_few(variables)}): what it did "
                "there cannot be reproduced"
            )
