"""One phase, step by step.

Everything that happens at step i (its samples, its symmetries, its learning rate, the seed of what the operator draws)
is a function of i, of the seed and, for a budget in seconds, of the clock. So the state between two steps is the
weights, the optimizer's moments, the weight average and a few counters, and a phase goes on from any of its steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from lightning_fabric import Fabric
from torch import Tensor

from fieldwright.errors import InputError, TrainingError
from fieldwright.operators.flops import counted_flops
from fieldwright.progress import Reporter, Stage
from fieldwright.training.averaging import WeightAverage
from fieldwright.training.batches import Batch, SampleStream, Symmetry, augment, augment_mask
from fieldwright.training.callback import Step, own_callbacks
from fieldwright.training.carried import Carried
from fieldwright.training.checkpoint import CheckpointStore
from fieldwright.training.clock import Clock
from fieldwright.training.data import TrainingData
from fieldwright.training.devices import multiplies_bfloat16, total
from fieldwright.training.gradient_noise import NoisyGradients
from fieldwright.training.guard import FiniteGuard
from fieldwright.training.interruption import StopRequest, TrainingStopped
from fieldwright.training.metrics import MetricsTable, Row
from fieldwright.training.objectives import build_objective
from fieldwright.training.optimizers import build_optimizer, load_named_state, named_state, trainable
from fieldwright.training.parameter_groups import FACTOR, optimizer_groups
from fieldwright.training.phases import Phase, lead_times
from fieldwright.training.position import Position, TrainingState
from fieldwright.training.prediction import PhysicalPrediction, validate
from fieldwright.training.roll_out import RolledOut
from fieldwright.training.seeding import derived_generator, derived_seed, random_numbers

ROWS = 200
"""Rows of metrics in a phase, at most."""

VALIDATIONS = 20
"""Validations in a phase, at most: in short phases as many as take about `VALIDATION_SHARE` of the samples' passes."""

VALIDATION_SHARE = 0.15
PASSES = 3
"""Cost of a training step on a sample in forward passes: one forward, two backward."""


@dataclass(frozen=True)
class Surroundings:
    """What all phases of a training share. ``store`` is None in processes that write nothing."""

    identity: str
    data: TrainingData
    scale: Tensor
    symmetries: Sequence[Symmetry]
    seed: int
    fabric: Fabric
    table: MetricsTable
    store: CheckpointStore | None
    stop: StopRequest
    reporter: Reporter


class PhaseRun:
    """A phase under way: the operator, its optimizer and its average, and the steps that move them.

    Errors: `InputError` when a process would get no sample of a batch, or nothing is trainable.
    """

    def __init__(
        self,
        phase: Phase,
        carried: Carried,
        position: Position,
        around: Surroundings,
        average: WeightAverage | None = None,
        callback_states: Sequence[dict[str, Any]] = (),
    ) -> None:
        fabric, data = around.fabric, around.data
        if phase.batch_size < fabric.world_size:
            raise InputError(f"phase '{phase.name}': batch_size {phase.batch_size} for {fabric.world_size} processes")
        self.phase, self.operator, self.position, self.around = phase, carried.operator, position, around
        self.lineage = carried.lineage
        objective = build_objective(phase.objective)
        if phase.gradient_noise:
            objective = NoisyGradients(objective, phase.gradient_noise)
        self.objective = objective if phase.roll_out is None else RolledOut(objective, phase.roll_out)
        self.operator.to(fabric.device).train()
        self.parameters = list(trainable(self.operator).values())
        if not self.parameters:
            raise InputError(f"phase '{phase.name}': the operator has no parameter that can be trained")
        module: Any = torch.compile(self.operator) if phase.compile else self.operator
        self.wrapped = fabric.setup_module(module)
        groups = optimizer_groups(self.operator, phase.groups, phase.weight_decay)
        self.optimizer = build_optimizer(phase.optimizer, groups, phase.learning_rate, phase.weight_decay)
        load_named_state(self.operator, self.optimizer, carried.optimizer_state)
        self.average = average
        if average is not None:
            average.to(fabric.device)
        elif phase.ema is not None:
            self.average = WeightAverage.of(self.operator, phase.ema)
        self.source, self.validation = phase.source(data.train_samples), phase.validation_source(data.valid_samples)
        self.unit = self._unit()
        self.predict = PhysicalPrediction(
            self.wrapped, data.inputs, data.outputs, bfloat16=self._in_bfloat16(), unit=self.unit
        )
        self.stream = SampleStream(len(self.source), phase.batch_size, around.seed, position.phase)
        self.guard = FiniteGuard(fabric.device)
        self.loss_sums = torch.tensor(position.loss_sums or [0.0] * len(self.objective.names), device=fabric.device)
        self.clock = Clock(position)
        self.callbacks = [*phase.build_callbacks(), *own_callbacks(self.operator)]
        for callback in self.callbacks:
            callback.begin(self._seen(phase.rate(self.fraction())))
        for callback, state in zip(self.callbacks, callback_states, strict=bool(callback_states)):
            callback.load_state_dict(state)

    def run(self) -> Carried:
        """Step until the budget is used up; hand on the operator, with averaged weights, and the optimizer's state.

        Errors: `TrainingError` when a loss or gradient is not finite; `TrainingStopped` after a signal, with a
        checkpoint written; `StorageError` when one cannot be written.
        """
        expected = self.phase.expected_steps(self.stream.samples)
        size, unit = (100, "%") if expected is None else (expected, "steps")
        with self.around.reporter.stage(f"train {self.phase.name}", size, unit) as stage:
            stopped = False
            while self.fraction() < 1 and not stopped:
                stopped = self._step()
                if self.clock.redraw_due() or self.fraction() == 1:
                    self._show(stage)
                if stopped or (self.around.store is not None and self.around.store.due()):
                    self._store()
            if stopped:
                self.around.fabric.barrier()
                raise TrainingStopped(
                    f"training stopped on request at step {self.position.total_steps}; its checkpoint is written and"
                    " the same command goes on from there"
                )
        self._check_finite()
        if self.average is not None:
            self.average.copy_to(self.operator)
        for callback in self.callbacks:
            sentence = callback.end(self._seen(self.phase.rate(1.0)))
            if sentence:
                self.around.reporter.notice(sentence)
        self.clock.read(self.position)
        return Carried(self.operator, named_state(self.operator, self.optimizer), self.lineage)

    def fraction(self) -> float:
        """How much of the budget is used."""
        p = self.position
        return self.phase.fraction(
            steps=p.step, epochs=self.stream.epochs(p.step), seconds=p.phase_seconds, flops=p.phase_flops
        )

    def _seen(self, rate: float, samples: int | None = None) -> Step:
        """The step as callbacks see it."""
        return Step(
            self.operator, self.optimizer, self.position.step, self.fraction(), rate, samples or self.phase.batch_size
        )

    def _unit(self) -> float | None:
        """The time in which the operator counts lead times."""
        found = lead_times([self.phase], self.around.data.train_samples)
        return None if found is None else found.unit

    def _in_bfloat16(self) -> bool:
        if self.phase.precision != "auto":
            return self.phase.precision == "bf16-mixed"
        return getattr(self.operator, "bfloat16_pays", False) and multiplies_bfloat16(self.around.fabric.device)

    def _step(self) -> bool:
        """One update of the weights and what is due after it; returns whether a signal asks to stop."""
        phase, position, fabric = self.phase, self.position, self.around.fabric
        before = self.fraction()
        rate = phase.rate(before)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group[FACTOR]
        losses = self._gradients(rate) if position.step_flops is not None else self._counted_gradients(rate)
        losses, stop = self._agree(losses)
        for callback in self.callbacks:
            callback.after_backward(self._seen(rate))
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, phase.clip or float("inf"))
        self.guard.watch(position.total_steps, losses, norm)
        if position.step % self.guard.every == 0:
            self._check_finite()
        self.optimizer.step()
        for callback in self.callbacks:
            callback.after_update(self._seen(rate))
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.operator)
        self.loss_sums += losses
        position.step += 1
        position.total_steps += 1
        position.flops += position.step_flops or 0
        position.summed_steps += 1
        if fabric.world_size == 1:
            self.clock.read(position)
        validated = self._validation_due(before) and self._validate()
        if validated or _crossed(before, self.fraction(), ROWS):
            self._record(rate, norm, validated=validated)
        return stop

    def _counted_gradients(self, rate: float) -> Tensor:
        """The first step of a phase, which tells the operations of each; they are the same in all of them."""
        with torch.compiler.set_stance("force_eager"), counted_flops() as count:
            losses = self._gradients(rate)
        self.position.step_flops = count()
        if self.around.fabric.world_size > 1:
            self.position.step_flops = int(total(self.around.fabric, torch.tensor(count(), device=losses.device)))
        return losses

    def _gradients(self, rate: float) -> Tensor:
        """Backpropagate the losses of this process's part of the batch; returns that part's share of each loss."""
        position, fabric, phase = self.position, self.around.fabric, self.phase
        rank, world = fabric.global_rank, fabric.world_size
        indices = self.stream.indices(position.step)
        draws = derived_generator(self.around.seed, "symmetry", position.phase, position.step)
        choice = torch.randint(max(len(self.around.symmetries), 1), (len(indices),), generator=draws)
        numbers = random_numbers(
            len(indices), derived_generator(self.around.seed, "pair", position.phase, position.step)
        )
        torch.manual_seed(derived_seed(self.around.seed, "step", position.phase, position.step, rank))
        mine, chosen, drawn = (part.tensor_split(world)[rank] for part in (indices, choice, numbers))
        wanted = max((callback.pieces(position.step) for callback in self.callbacks), default=1)
        pieces = min(max(phase.accumulate, wanted), len(mine))
        shares = torch.zeros(len(self.objective.names), device=fabric.device)
        split = zip(*(part.tensor_split(pieces) for part in (mine, chosen, drawn)), strict=True)
        for number, (piece, symmetry, draws) in enumerate(split, start=1):
            # Processes exchange gradients once a step, in the backward pass of the last piece.
            with fabric.no_backward_sync(self.wrapped, enabled=number < pieces):
                losses = self.objective(self.predict, self._batch(piece, symmetry, draws))
                stacked = torch.stack([losses[name] for name in self.objective.names])
                share = len(piece) / phase.batch_size
                # Data parallelism averages the gradients of the processes, while the shares are to be summed.
                fabric.backward(stacked.sum() * (share * world))
            shares += share * stacked.detach()
            for callback in self.callbacks:
                callback.after_piece(self._seen(rate, len(piece)))
        return shares

    def _batch(
        self, indices: Int[Tensor, " batch"], symmetry: Int[Tensor, " batch"], numbers: Int[Tensor, " batch"]
    ) -> Batch:
        device, data = self.around.fabric.device, self.around.data
        drawn = self.source.draw(indices, numbers)
        inputs, outputs, missing = drawn.inputs.to(device), drawn.outputs.to(device), drawn.missing
        if len(self.around.symmetries) > 1:
            inputs, outputs = augment(inputs, outputs, self.around.symmetries, symmetry)
            missing = None if missing is None else augment_mask(missing, outputs, self.around.symmetries, symmetry)
        return Batch(
            inputs,
            outputs,
            data.grid,
            self.around.scale,
            lead_time=drawn.lead_time.to(device) if self.unit is not None and drawn.lead_time is not None else None,
            missing=None if missing is None else missing.to(device),
            layout=data.layout,
        )

    def _agree(self, losses: Tensor) -> tuple[Tensor, bool]:
        """Sum the losses over the processes; the first one's clock and anyone's wish to stop count for all."""
        fabric, position = self.around.fabric, self.position
        stop = self.around.stop.name is not None
        if fabric.world_size == 1:
            return losses, stop
        if fabric.is_global_zero:
            self.clock.read(position)
        own = [position.phase_seconds if fabric.is_global_zero else 0.0, float(stop)]
        summed = total(fabric, torch.cat([losses, torch.tensor(own, device=losses.device)]))
        if self.phase.seconds is not None or position.step % self.guard.every == 0:
            self.clock.set(position, float(summed[-2]))
            return summed[:-2], bool(summed[-1] > 0)
        return summed[:-2], False

    def _validation_due(self, before: float) -> bool:
        after, position = self.fraction(), self.position
        passes = PASSES * self.phase.batch_size * (position.step - position.validated_step)
        worth_it = self.around.data.validation_samples <= VALIDATION_SHARE * passes
        return after == 1 or (worth_it and _crossed(before, after, VALIDATIONS))

    def _validate(self) -> bool:
        self._check_finite()
        with self.average.applied(self.operator) if self.average is not None else nullcontext():
            errors = validate(
                self.operator, self.around.data, self.around.fabric, source=self.validation, unit=self.unit
            )
            self.position.validated(errors)
        return True

    def _record(self, rate: float, norm: Tensor, *, validated: bool) -> None:
        position = self.position
        means = (self.loss_sums / position.summed_steps).tolist()
        row: Row = {
            "step": position.total_steps,
            "phase": self.phase.name,
            "phase_step": position.step,
            "epoch": self.stream.epochs(position.step),
            "fraction": self.fraction(),
            "learning_rate": rate,
            "loss": sum(means),
            **{f"loss_{name}": mean for name, mean in zip(self.objective.names, means, strict=True)},
            "gradient_norm": float(norm),
            "flops": position.flops,
            "seconds": position.seconds,
            "seconds_per_step": self.clock.since_last_row(position) / position.summed_steps,
        }
        for callback in self.callbacks:
            row |= callback.figures()
        if validated and position.last is not None:
            row["valid_relative_l2"] = position.last.relative_l2
            row["valid_relative_h1"] = position.last.relative_h1
        self.around.table.append(row)
        self.loss_sums.zero_()
        position.summed_steps = 0

    def _store(self) -> None:
        if self.around.store is None:
            return
        self._check_finite()
        self.position.loss_sums = self.loss_sums.tolist()
        state = TrainingState(
            identity=self.around.identity,
            position=self.position,
            operator=self.operator.state_dict(),
            optimizer=named_state(self.operator, self.optimizer),
            average=self.average,
            rows=self.around.table.rows,
            callbacks=[callback.state_dict() for callback in self.callbacks],
            lineage=self.lineage,
        )
        self.around.store.write(state.to_dict(), phase=self.position.phase, step=self.position.step)

    def _check_finite(self) -> None:
        step = self.guard.first_bad_step()
        if step is None:
            return
        kept = self.around.store.paths() if self.around.store is not None else []
        last = f"the last good checkpoint is {kept[-1].name}" if kept else "there was no checkpoint yet"
        raise TrainingError(
            f"phase '{self.phase.name}': loss or gradient is not finite at step {step};"
            f" {last}; try a smaller learning_rate (it is {self.phase.learning_rate:g}) or clip ({self.phase.clip})"
        )

    def _show(self, stage: Stage) -> None:
        position = self.position
        facts = {"learning rate": f"{self.optimizer.param_groups[0]['lr']:.1e}"}
        if self.around.table.rows:
            facts["loss"] = f"{self.around.table.rows[-1]['loss']:.4f}"
        if position.last is not None:
            facts["valid error"] = f"{100 * position.last.relative_l2:.2f} %"
        done = position.step if self.phase.expected_steps(self.stream.samples) is not None else 100 * self.fraction()
        stage.advance(done - stage.done, **facts)


def _crossed(before: float, after: float, parts: int) -> bool:
    """Whether a multiple of 1/parts lies in (before, after]."""
    return int(after * parts) > int(before * parts)
