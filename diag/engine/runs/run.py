"""Watch, zoom, attribute: one run of the lockstep from the first step to the last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.runs.findings import WORST_KEPT, Found, worst_of
from diag.engine.localization.fused import FusedFaults
from diag.engine.lockstep.history import History
from diag.engine.rewrites.around import rewrites_around
from diag.engine.lanes.lane import Lane
from diag.engine.graphs.tf_errors import reason_of
from diag.engine.runs.reruns import unlike_itself
from diag.engine.step.program import Program
from diag.engine.runs.random_draws import RandomStreams
from diag.engine.runs.settings import Recorder, Settings
from diag.engine.lanes.step_results import StepRun, UnitRun
from diag.engine.step.watching import described
from diag.engine.lockstep.telescope import Telescope
from diag.engine.runs.twins import Twins
from diag.engine.runs.reruns import is_hidden_by_watching
from diag.engine.runs.updates import study_updates
from diag.engine.runs.zooming import Zoom
from diag.errors import UserError
from diag.numerics.figures import PairStatistics
from diag.verdict.findings import Divergence, Observation, Verdict
from diag.verdict.ladder import amplifiers_in, first_difference, first_nonfinite, overall
from diag.verdict.result import Judged, LaneInfo, RunResult
from diag.engine.runs.attention import MAX_ZOOMS
from diag.engine.runs.attention import NEAR_ITS_BOUND
from diag.engine.runs.attention import SUSPICIOUS_GROWTH
from diag.engine.step.batch import flat_batch

if TYPE_CHECKING:
    from diag.engine.step.batch import Batch



class LockstepRun:
    """One model, two places, the same batches."""

    def __init__(
        self,
        programs: Callable[[Batch], Program],
        batches: Any,
        settings: Settings,
        recorder_of: Callable[[LockstepRun], Recorder] | None = None,
        progress: Callable[[int, str, float, float], None] | None = None,
        reference: Lane | None = None,
    ) -> None:
        self.programs, self.batches, self.settings = programs, batches, settings
        first = batches[settings.first_step]
        self.progress = progress or (lambda step, doing, mine, theirs: None)
        self._telescopes: dict[Any, Telescope] = {}
        self.program: Program = programs(first)
        self.reference = reference or Lane.at("reference", settings.reference, self.program, settings.seed)
        self.candidate = Lane.at("candidate", settings.candidate, self.program, settings.seed)
        self.twins = Twins(settings.reference, settings.seed, settings.twins) if settings.twins else None
        self.found = Found()
        self.streams = RandomStreams()
        self.history = History(settings.candidate)
        both = {lane.name: lane for lane in (self.reference, self.candidate)}
        is_every = settings.units == "op"
        self.zoom = Zoom(is_every, settings.first_step, both, self.found, self.streams, self.history)
        self._near: set[Any] = set()
        self._seen: dict[Any, bool] = {}  # units by their outputs' sites: whether they have differed yet
        self._curious_looks = 0
        self._explained: set[Any] = set()  # sites of units whose fault was named, across layers maybe
        self._unit_runs: list[UnitRun] = []
        self._whole_run: UnitRun | None = None
        self.first_bit: Observation | None = None
        self.first_nonfinite: Observation | None = None
        self.telescope_for(first, self.program)
        self.recorder = recorder_of(self) if recorder_of is not None else None

    # -- programs and batches --------------------------------------------------------------------

    def telescope_for(self, batch: Batch, program: Program | None = None) -> Telescope:
        """The telescope for a batch's shapes; a smaller last batch gets a program of its own."""
        key = tuple((value.shape, str(value.dtype)) for value in flat_batch(batch))
        if key not in self._telescopes:
            program = program or self.programs(batch)
            telescope = Telescope(program, self.reference, self.candidate)
            telescope.shared = tuple(p for p in program.random_ports if self.streams.are_shared)
            self._telescopes[key] = telescope
            if not self._telescopes.keys() - {key}:
                self.found.note(described(telescope.program))
            for name, reason in telescope.cut.uncut.items():
                self.found.note(f"{name} is no unit of its own: {reason}")
        return self._telescopes[key]

    # -- the run -----------------------------------------------------------------------------------

    def run(self) -> RunResult:
        for step in self.settings.numbers:
            batch = self.batches[step]
            telescope = self.telescope_for(batch)
            self.reference.begin(step)
            self._align()
            try:
                run = self._one_step(step, telescope, [tf.constant(value) for value in flat_batch(batch)])
            except tf.errors.OpError as error:
                raise self._reason(error, step) from error
            self._check_faults()
            losses = [float(values[telescope.program.loss]) for values in (run.compared, run.candidate)]
            for lane, loss in zip(self.found.losses.values(), losses, strict=True):
                lane.append(loss)
            self.history.remember(step, telescope.program, run.before, run.batch)
            self.progress(step + 1, "watching", *losses)
        return self._result()

    def _check_faults(self) -> None:
        for lane in (self.reference, self.candidate):
            if lane.simulation is not None:
                lane.simulation.check()

    def _reason(self, error: tf.errors.OpError, step: int) -> Exception:
        """Why TensorFlow gave up: a step XLA cannot compile, or what it says itself."""
        unsupported = isinstance(error, (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError))
        if unsupported and self.settings.candidate.execution == "xla" and step == self.settings.first_step:
            said = reason_of(error)
            return UserError(f"{self.settings.candidate}: XLA cannot compile this step: {said}")
        if self.settings.candidate.is_simulated:
            said = reason_of(error)
            return UserError(f"{self.settings.candidate}: step {step} fails with the fault planted in it: {said}")
        return error  # type: ignore[no-any-return]

    def _align(self) -> None:
        """Both lanes start a step from one state, unless each follows its own."""
        if self.settings.follow == "reference":
            self.candidate.load(self.reference.state())
        elif self.settings.follow == "candidate":
            self.reference.load(self.candidate.state())

    def _one_step(self, step: int, telescope: Telescope, batch: Sequence[Any]) -> StepRun:
        checked = self.settings.units != "step" and step % self.settings.checks == 0
        own_state = self.candidate.state()
        run = telescope.run_step(step, batch, with_boundaries=checked)
        self._check_faults()
        if self._streams_disagree(telescope, run):
            self.reference.load(run.before)
            self.candidate.load(own_state)
            run = telescope.run_step(step, batch, with_boundaries=checked)
        propagated = telescope.propagated(run)
        self.found.any_bit_differs |= any(s.num_unequal for s in propagated.values())
        if not checked and self.settings.units != "step" and self._is_suspicious(propagated):
            self.reference.load(run.before)
            self.candidate.load(own_state)
            run, checked = telescope.run_step(step, batch, with_boundaries=True), True
            self.found.note(f"step {step} was checked because it differed more than steps before it that are explained")
        if step == self.settings.first_step and is_hidden_by_watching(telescope, run, own_state, self.found.note):
            self.reference.load(run.before)
            self.candidate.load(own_state)
            run = telescope.run_step(step, batch, with_boundaries=checked)
            propagated = telescope.propagated(run)
        observations = self._judge(step, telescope, run, propagated, checked)
        self._compare_own_run(telescope, run, propagated, observations)
        if checked and not any(o.verdict is Verdict.DIVERGENCE for o in observations) and not self.found.divergences:
            observations += [o for o in self._judge_whole(step, telescope, run, propagated) if o.excess > 1]
        self._remember(observations, checked, propagated)
        self._study_updates(telescope, run)
        flagged = [o for o in observations if o.verdict is Verdict.DIVERGENCE]
        if self.settings.units == "op" or self._calls_for_microscope(observations, flagged):
            self.progress(
                step,
                "microscope",
                *(float(v[telescope.program.loss]) for v in (run.reference, run.candidate)),
            )
            self._zoom(step, telescope, run, flagged)
            self._curious_looks += not flagged
            self._near |= {o.where.location for o in observations if o.excess > NEAR_ITS_BOUND}
        for o in observations:
            self._seen[_output_of(o)] = self._seen.get(_output_of(o), False) or o.verdict is not Verdict.IDENTICAL
        if self.twins is not None:
            self.twins.step(run, telescope.program, (self.reference, self.candidate))
            if self.twins.candidate_has_left and self.twins.looked_closer is None and not self.found.divergences:
                self.twins.looked_closer = step
                self._look_closer(telescope, run)
        if self.recorder is not None:
            self.recorder.step(run, telescope, bool(flagged), observations)
        return run

    def _calls_for_microscope(self, observations: Sequence[Observation], flagged: Sequence[Observation]) -> bool:
        """A unit out of bound and not explained yet; the first step that differs; a unit that has not differed before.

        The bound on a single op is tighter than that on a layer: an op may be wrong by little, at one step.
        """
        if self.settings.units == "step" and not flagged:
            return False
        if len(self.found.zoomed) - self._curious_looks < MAX_ZOOMS and any(
            o.where.location not in self._known_locations(o) for o in flagged
        ):
            return True
        if flagged or self._curious_looks >= MAX_ZOOMS:
            return False
        differing = [o for o in observations if o.verdict is Verdict.ROUNDING]
        if differing and not self.found.zoomed:
            return True
        if any(self._seen.get(_output_of(o)) is False for o in differing):
            return True
        return any(o.excess > NEAR_ITS_BOUND and o.where.location not in self._near for o in differing)

    def _known_locations(self, observation: Observation) -> set[Any]:
        """Sites already explained, so that one fault is zoomed into once."""
        layer, variable = observation.where.layer, observation.where.variable
        if observation.where.location in self._explained:
            return {observation.where.location}
        known = [d for d in self.found.divergences if (d.where.layer, d.where.variable) == (layer, variable)]
        return {observation.where.location} if known else set()

    def _streams_disagree(self, telescope: Telescope, run: StepRun) -> bool:
        """Random draws that differ are reported and, from then on, shared."""
        ports = telescope.random_differs(run)
        draws = [(telescope.program.graph.by_name[port.node], to_numpy(run.candidate[port])) for port in ports]
        for port in telescope.program.random_ports:
            if port not in ports and port in run.candidate:
                self.streams.remember(telescope.program.graph.by_name[port.node], to_numpy(run.candidate[port]))
        if not draws:
            return False
        for divergence in self.streams.judge(run.step, draws):
            self.found.add(divergence)
        for text in self.streams.notes:
            self.found.note(text)
        self.found.any_bit_differs = True
        for each in self._telescopes.values():
            each.shared = each.program.random_ports
        return True

    def _is_suspicious(self, propagated: dict[tuple[str, str], PairStatistics]) -> bool:
        if self.settings.follow == "free":
            return any(s.classes.num_mismatched for s in propagated.values())
        return any(
            s.classes.num_mismatched
            or s.normwise_relative_error > SUSPICIOUS_GROWTH * max(self.found.worst_explained.get(key, 0.0), 2.0**-20)
            for key, s in propagated.items()
            if key[0] in ("activations", "gradients", "loss")
            or (key[0] == "weight" and ("gradients", key[1]) not in propagated)
        )

    # -- judging -----------------------------------------------------------------------------------

    def _judge(
        self, step: int, telescope: Telescope, run: StepRun, propagated: Any, checked: bool
    ) -> list[Observation]:
        if self.settings.units == "step":
            return self._judge_whole(step, telescope, run, propagated)
        if not checked:
            return []
        observations: list[Observation] = []
        self._unit_runs = telescope.run_units(run)
        for unit_run in self._unit_runs:
            observations += telescope.judge_unit(unit_run, step == self.settings.first_step, propagated)
        return observations

    def _compare_own_run(
        self, telescope: Telescope, run: StepRun, propagated: Any, observations: Sequence[Observation]
    ) -> None:
        """A step that looks wrong with every unit right by itself may have computed from more than it was given."""
        if self.settings.follow == "free" or not self._is_suspicious(propagated):
            return
        if any(o.verdict is Verdict.DIVERGENCE for o in observations) or self.found.divergences:
            return
        unlike = unlike_itself(telescope, run)
        if unlike is None:
            return
        whole = telescope.judge_unit(telescope.whole_step_run(run), True, propagated)
        seen = telescope.output_of(unlike.port, whole)
        if seen is not None and seen.excess > 1:
            self.found.add(Divergence(seen.where, unlike.cause, "kernel", seen.excess, (), unlike.evidence))

    def _judge_whole(self, step: int, telescope: Telescope, run: StepRun, propagated: Any) -> list[Observation]:
        """The step as one unit, against truth; only where it differs and both lanes started from one state."""
        if self.settings.follow == "free" and step > self.settings.first_step:
            return []
        if self.settings.units != "step" and not any(s.num_unequal for s in propagated.values()):
            return []
        whole = self._whole_run = telescope.whole_step_run(run)
        if step > self.settings.first_step and not self._is_suspicious(propagated):
            return []
        return telescope.judge_unit(whole, True, propagated)

    def _study_updates(self, telescope: Telescope, run: StepRun) -> None:
        """What Adam made of gradients that differ, the first time that there is truth of a whole step's."""
        truth, telescope.gradient_truth = telescope.gradient_truth, None  # as large as the weights: not kept
        if truth is not None and self.settings.adam is not None and not self.found.updates:
            self.found.updates = study_updates(self.settings.adam, telescope.program, run, truth)

    def _remember(self, observations: Sequence[Observation], checked: bool, propagated: Any) -> None:
        found = self.found
        found.num_layer_outputs += len(observations)
        found.layers = worst_of([*found.layers, *observations])
        clean = not any(o.verdict is Verdict.DIVERGENCE for o in observations)
        if observations and (not found.divergences):
            told = [o for o in observations if o.propagated is not None or o.verdict is Verdict.DIVERGENCE]
            found.path = sorted(told, key=lambda o: o.where.sort_key)
        if (clean and not found.worst_explained) or (checked and (clean or found.divergences)):
            for key, s in propagated.items():
                found.worst_explained[key] = max(found.worst_explained.get(key, 0.0), s.normwise_relative_error)
        self._firsts(observations)

    def _firsts(self, observations: Sequence[Observation]) -> None:
        self.first_bit = self.first_bit or first_difference(observations)
        self.first_nonfinite = self.first_nonfinite or first_nonfinite(observations)

    def _zoom(self, step: int, telescope: Telescope, run: StepRun, flagged: Sequence[Observation]) -> None:
        """One step under the microscope, from the snapshot before it, and then what only compiling shows."""
        ops, innocent = self.zoom(step, telescope, run)
        guilty = [o for o in ops if o.verdict is Verdict.DIVERGENCE]
        is_first = all("region" not in known.evidence for known in self.found.divergences)  # one says enough
        fused = FusedFaults(telescope, self._unit_runs, self._whole_run)
        for divergence in fused.divergences(flagged, [*guilty, *innocent], ops, with_region=is_first):
            self.found.add(divergence)
        self._explained |= fused.explained
        if flagged and not self.found.path:
            self.found.path = list(flagged)
        self._firsts(ops)
        if self.recorder is not None:
            self.recorder.observations(ops)

    def _look_closer(self, telescope: Telescope, run: StepRun) -> None:
        """A step in which the candidate left the twins' envelope with nothing known to be wrong.

        Every unit and every op of it from the reference's state and, since a fault may lie on the
        candidate's path alone, from the candidate's.
        """
        for state in (run.before, run.before_candidate):
            self.reference.load(state)
            self.candidate.load(state)
            closer = telescope.run_step(run.step, run.batch, with_boundaries=True)
            propagated = telescope.propagated(closer)
            self._unit_runs = telescope.run_units(closer)
            observations = [o for each in self._unit_runs for o in telescope.judge_unit(each, True, propagated)]
            if not any(o.verdict is Verdict.DIVERGENCE for o in observations):
                whole = self._whole_run = telescope.whole_step_run(closer)
                observations += [o for o in telescope.judge_unit(whole, True, propagated) if o.excess > 1]
            self._remember(observations, True, propagated)
            flagged = [o for o in observations if o.verdict is Verdict.DIVERGENCE]
            self._zoom(run.step, telescope, closer, flagged)
            if self.found.divergences:
                break
        else:
            self._note_not_reproduced(telescope.not_reproduced(run, closer), run.step)
        self.reference.load(run.after_reference)
        self.candidate.load(run.after_candidate)

    def _note_not_reproduced(self, variables: Sequence[str], step: int) -> None:
        if variables:
            some = ", ".join(variables[:3]) + (", ..." if len(variables) > 3 else "")
            self.found.note(
                f"step {step} of the candidate, run again from its own state on the same batch, leaves other bits in "
                f"{len(variables)} of {len(self.program.variables)} variables ({some}): what it did there cannot be "
                "reproduced"
            )

    # -- the result --------------------------------------------------------------------------------

    def _result(self) -> RunResult:
        found = self.found
        judged = Judged(
            found.num_layer_outputs, found.num_op_outputs, found.num_unjudged, tuple(found.zoomed),
            tuple(sorted(found.fallbacks)), tuple(sorted(found.unjudged)), **found.remarks.as_judged(),
        )  # fmt: skip
        differs = found.any_bit_differs or self.first_bit is not None
        first = found.divergences[0] if found.divergences else None
        return RunResult(
            verdict=overall(found.divergences, differs),
            first_divergence=first,
            divergences=tuple(found.divergences),
            first_bit_difference=self.first_bit,
            first_nonfinite=self.first_nonfinite,
            amplifiers=(*amplifiers_in(found.path), *found.amplifying[:WORST_KEPT]),
            steps=self.settings.steps,
            first_step=self.settings.first_step,
            lanes=tuple(
                LaneInfo(lane.name, lane.label, lane.place.is_simulated, lane.environment())
                for lane in (self.reference, self.candidate)
            ),
            losses=found.losses,
            path=tuple(found.path),
            microscope=tuple(found.ops),
            worst=tuple(worst_of([*found.layers, *found.ops])[:WORST_KEPT]),
            judged=judged,
            notes=(*found.notes, *found.remarks.notes),
            updates=tuple(found.updates),
            rewrites=None if first is None else rewrites_around(first, self.program, self.candidate),
            twins=None if self.twins is None else self.twins.trajectories(bool(found.divergences)),
        )




def _output_of(observation: Observation) -> Any:
    """One output of a unit, whatever the step: a layer's site does not say which of its outputs."""
    return (*observation.where.location, observation.where.output)
