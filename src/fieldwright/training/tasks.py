"""One network that learns tasks one after another and forgets none of them by a bit.

Task t has a mask m^t on every large weight W and a copy of everything else: biases, norms with their running
statistics, small layers. Entries that a task has trained belong to it; with U^t = m^1 ∨ … ∨ m^t

    task t computes with  m^t ⊙ W,      trains  m^t ∧ ¬U^{t-1},      and reads  m^t ∧ U^{t-1}  as they are.

So nothing that an earlier task computes with is ever changed. Which device, number type and kernels run decides the
last bits of an output; on the same ones a task gives the same bits for ever.

Source: Yildirim, Gok Yildirim, Sokar, Mocanu, Vanschoren, "Continual Learning with Dynamic Sparse Training: Exploring
Algorithms for Effective Model Updates", CPAL 2024 (arXiv 2308.14831); that entries grow on free positions only and that
all that is not masked is kept per task is ours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from fieldwright.errors import DataError, InputError
from fieldwright.growth import Growth
from fieldwright.growth.blocks import rebuilt
from fieldwright.settings import allowed
from fieldwright.training.callback import Callback
from fieldwright.training.dynamic_sparse import TaskSteps
from fieldwright.training.seeding import derived_generator
from fieldwright.training.sparse_masks import SMALLEST, MaskedWeight, mask_layouts
from fieldwright.training.sparsity import MaskLayout, SparseRules, drawn_mask, layer_counts
from fieldwright.training.task_records import TaskRecord, TensorTable, packed, unpacked

SHARINGS = ("all", "fill", "drawn", "none")

LEAST_TRAINED = 0.25
"""A task of which less than this share of the entries it asks for is free is not begun."""


class ContinualOperator(nn.Module):
    """A module that learns tasks one after another: `begin_task`, train, `begin_task`, train, … and `use_task`.

    ``module``    any; its weights are the start of every task
    ``dense``     patterns of parameters that every task gets a copy of instead of a mask, such as ``project.*``
    ``smallest``  weights of fewer entries are such, too
    ``seed``      of all masks

    The call is the module's, for the task that is in use. The training loop keeps to the masks by itself, whatever the
    optimizer; in a loop of your own call what `callbacks` returns. A task is known by its name when it is used.
    Errors: `InputError` for a pattern that names nothing or a module without weights to mask.
    """

    def __init__(
        self, module: nn.Module, *, dense: Sequence[str] = (), smallest: int = SMALLEST, seed: int = 0
    ) -> None:
        super().__init__()
        self.dense, self.smallest, self.seed = tuple(dense), smallest, seed
        self.generations = nn.ModuleList()
        self.initial = nn.ModuleList()
        self.layouts: list[dict[str, MaskLayout]] = []
        self.tasks = nn.ModuleDict()
        self.current: str | None = None
        self.open: str | None = None
        self.rules = SparseRules()
        self.store = TensorTable({})
        self.sizes = TensorTable({})
        self._add_generation(module)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """The output of the task that is in use."""
        if self.current is None:
            raise InputError("no task is in use; call begin_task or use_task first")
        return self.generations[self.record(self.current).generation](*inputs, **options)

    @property
    def names(self) -> list[str]:
        """The tasks, in the order in which they were begun."""
        return [key.removeprefix("task-") for key in self.tasks]

    def record(self, name: str) -> TaskRecord:
        """What a task has to itself.

        Errors: `InputError` for a task that is not there.
        """
        if f"task-{name}" not in self.tasks:
            raise InputError(f"task '{name}'; {allowed(name, self.names)}")
        return self.tasks[f"task-{name}"]  # type: ignore[return-value]

    @torch.no_grad()
    def begin_task(
        self, name: str, rules: SparseRules | None = None, *, sharing: str = "none", state_of: str | None = None
    ) -> None:
        """Finish the task before, draw masks for a new one and put its first weights into the module.

        ``sharing``   which entries of earlier tasks it reads: "none", best for unlike equations; "all", for tasks with
                      much in common; those that a mask drawn everywhere happens to hit ("drawn"); or those that fill
                      up the mask where free ones run short ("fill")
        ``state_of``  the task whose unmasked state it begins with; None: the module's at first

        Its own entries begin normal, with the module's first size over √δ_ℓ, δ_ℓ the density of all that it reads.
        Errors: `InputError` for a name that is taken or cannot be used, an unknown sharing, densities that cannot be
        reached, or a network that is too full; the operator is as it was then. `DataError` when an earlier task is not
        what it was when it was finished.
        """
        rules = rules or SparseRules()
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name in self.names:
            raise InputError(f"task '{name}': a new name of letters, digits, - and _ is needed; there are {self.names}")
        if sharing not in SHARINGS:
            raise InputError(f"sharing: '{sharing}'; {allowed(sharing, SHARINGS)}")
        generation = len(self.generations) - 1
        state: Mapping[str, Tensor] = self._initial()
        if state_of is not None:
            donor = self.record(state_of)
            if donor.generation != generation:
                raise InputError(f"state_of: '{state_of}' was learned before the network grew; its shapes are others")
            state = {key: donor.state[key] for key in donor.state}
        layouts = self.layouts[-1]
        counts = layer_counts(layouts, rules)
        owned = self.owned()
        masks = self._drawn(name, counts, owned, sharing)
        trained = sum(int((masks[key] & ~owned[key]).sum()) * layouts[key].entries_per_bit for key in layouts)
        asked = sum(counts[key] * layouts[key].entries_per_bit for key in layouts)
        if trained < LEAST_TRAINED * asked:
            raise InputError(
                f"task '{name}': {trained:,} of the {asked:,} entries that it asks for are free"
                f" ({self.free_share():.1%} of the network is); grow the network, or raise the sparsity"
            )
        if self.open is not None:
            self._finish()  # which may set entries free
            owned = self.owned()
            masks = self._drawn(name, counts, owned, sharing)
        self.tasks[f"task-{name}"] = TaskRecord(generation, masks, {key: x.clone() for key, x in state.items()})
        self.current, self.open, self.rules = name, name, rules
        module = self.generations[-1]
        parameters = dict(module.named_parameters())
        for key, layout in layouts.items():
            own = masks[key] & ~owned[key]
            size = self.sizes[key] * (layout.bits / max(int(masks[key].sum()), 1)) ** 0.5
            draws = derived_generator(self.seed, "start", name, key)
            fresh = torch.randn(layout.weight, generator=draws, dtype=parameters[key].dtype).to(size.device) * size
            visible = torch.where(masks[key] & owned[key], self.store[key], torch.zeros_like(fresh))
            parameters[key].copy_(torch.where(own, fresh, visible))
        self._load_state(module, self.record(name))

    @torch.no_grad()
    def use_task(self, name: str) -> None:
        """Put a task into the module: its masked weights and everything else it has.

        Errors: `InputError` for a task that is not there.
        """
        record = self.record(name)
        self.keep()
        module = self.generations[record.generation]
        parameters = dict(module.named_parameters())
        for key, value in self._weights(name).items():
            parameters[key].copy_(value)
        self._load_state(module, record)
        self.current = name

    @torch.no_grad()
    def keep(self) -> None:
        """Take what the module has learned of the open task into its record; the task can still be trained."""
        if self.open is None or self.current != self.open:
            return
        module, record = self.generations[-1], self.record(self.open)
        for key, weight in self.masked_weights().items():
            self.store[key].copy_(torch.where(weight.trained, weight.parameter, self.store[key]))
        found = module.state_dict()
        for key in record.state:
            record.state[key].copy_(found[key])

    def masked_weights(self) -> dict[str, MaskedWeight]:
        """The weights of the open task, by name.

        Errors: `InputError` when the task in use is not the one that was begun last: later ones rely on the others.
        """
        if self.open is None or self.current != self.open:
            raise InputError(f"task '{self.current}' is finished and later tasks may rely on it; begin_task a new one")
        owned = self._owned(self.names[:-1])
        masks = self._masks(self.open)
        parameters = dict(self.generations[-1].named_parameters())
        found = {}
        for key, layout in self.layouts[-1].items():
            held = torch.where(masks[key] & owned[key], self.store[key], torch.zeros_like(self.store[key]))
            found[key] = MaskedWeight(parameters[key], layout, masks[key], owned[key], held)
        return found

    def take_masks(self, weights: Mapping[str, MaskedWeight]) -> None:
        """Note the masks of the open task after an exchange."""
        assert self.open is not None
        for key, weight in weights.items():
            self.record(self.open).masks[key].copy_(packed(weight.active))

    def callbacks(self) -> list[Callback]:
        """What keeps the training loop to the masks."""
        return [TaskSteps(self)]

    def free_share(self) -> float:
        """The share of maskable entries that no task owns."""
        owned, layouts = self.owned(), self.layouts[-1]
        taken = sum(int(owned[key].sum()) * layouts[key].entries_per_bit for key in layouts)
        return 1 - taken / sum(self.store[key].numel() for key in layouts)

    def owned(self) -> dict[str, Bool[Tensor, "*bits"]]:
        """The bits that some task has, by the name of the weight."""
        return self._owned(self.names)

    def digest(self, name: str) -> str:
        """SHA-256 of all that a task computes with: masks, weights, and what is not masked."""
        record, found = self.record(name), hashlib.sha256()
        weights = self._weights(name)
        for table in (record.masks, weights, record.state):
            for key in sorted(table):
                tensor = table[key].detach().cpu().contiguous()
                found.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
                found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    def identical(self) -> dict[str, bool]:
        """Whether each finished task is in all bits what it was when it was finished."""
        return {
            name: bytes(self.record(name).digest.tolist()).hex() == self.digest(name)
            for name in self.names
            if name != self.open
        }

    def finish(self) -> None:
        """Finish the open task: entries that are still zero are free again, and its digest is kept.

        Errors: `DataError` when an earlier task is not what it was when it was finished.
        """
        if self.open is not None:
            self._finish()

    def grow(self, larger: nn.Module | Growth, *, seed: int = 0) -> None:
        """Go on in a larger module whose weights contain the present ones, at the lowest indices of the channels.

        ``larger``  the module, or a growth of `fieldwright.growth` such as ``Widen(width=64)``, whose plan builds it

        Masks and weights are filled up with zeros. Earlier tasks are run in the module that they were learned in, on
        the same entries: a product over more entries, though they are zero, may be summed in another order.
        Errors: `InputError` for a module that lacks a weight or has a smaller one, or other wavenumbers.
        """
        if not isinstance(larger, nn.Module):
            present = self.generations[-1]
            larger = rebuilt(present, larger.plan(present, seed=seed).settings, seed=seed)
        layouts = mask_layouts(larger, smallest=self.smallest, dense=self._patterns(larger))
        for key, layout in self.layouts[-1].items():
            new = layouts.get(key)
            if new is None or not new.contains(layout):
                found = "has none" if new is None else f"has {new.weight}"
                raise InputError(f"grow: '{key}' is {layout.weight}, which the larger module must contain; it {found}")
        if self.current is not None:
            self.use_task(self.open or self.current)
        self.finish()
        self.generations[-1].requires_grad_(False)
        self._add_generation(larger)

    def _drawn(
        self, name: str, counts: Mapping[str, int], owned: Mapping[str, Tensor], sharing: str
    ) -> dict[str, Tensor]:
        return {
            key: _chosen(layout, counts[key], owned[key], sharing, derived_generator(self.seed, "mask", name, key))
            for key, layout in self.layouts[-1].items()
        }

    def _patterns(self, module: nn.Module) -> tuple[str, ...]:
        kept_dense = {key for key, _ in self.generations[-1].named_parameters()} - set(self.layouts[-1])
        there = {key for key, _ in module.named_parameters()}
        return tuple(sorted(kept_dense & there))

    def _add_generation(self, module: nn.Module) -> None:
        first = not self.generations
        dense = self.dense if first else self._patterns(module)
        layouts = mask_layouts(module, smallest=self.smallest, dense=dense)
        parameters = dict(module.named_parameters())
        store = {key: torch.zeros_like(parameters[key], requires_grad=False) for key in layouts}
        for key in self.store:
            store[key][_corner(self.store[key])] = self.store[key]
        sizes = {key: parameters[key].detach().abs().square().mean().sqrt() for key in layouts}
        self.store, self.sizes = TensorTable(store), TensorTable(sizes)
        self.generations.append(module)
        self.layouts.append(layouts)
        self.initial.append(TensorTable(
            {key: value.clone() for key, value in module.state_dict().items() if key not in _aliases(module, layouts)}
        ))  # fmt: skip

    def _initial(self) -> dict[str, Tensor]:
        table = self.initial[-1]
        assert isinstance(table, TensorTable)
        return {key: table[key] for key in table}

    def _finish(self) -> None:
        assert self.open is not None
        changed = [name for name, same in self.identical().items() if not same]
        if changed:
            raise DataError(f"tasks {', '.join(changed)} are not what they were when they were finished")
        self.use_task(self.open)
        weights = self.masked_weights()
        for weight in weights.values():
            used = weight.parameter.detach() != 0
            axes = [a for a, n in enumerate(weight.layout.shape) if n == 1 and weight.layout.weight[a] > 1]
            weight.active = weight.active & ((used.any(axes, keepdim=True) if axes else used) | weight.blocked)
        self.take_masks(weights)
        name, self.open = self.open, None
        self.record(name).digest.copy_(torch.tensor(list(bytes.fromhex(self.digest(name))), dtype=torch.uint8))

    def _masks(self, name: str) -> dict[str, Bool[Tensor, "*bits"]]:
        """A task's masks, in the shapes of the network as it is."""
        record, found = self.record(name), {}
        for key, layout in self.layouts[-1].items():
            mask = torch.zeros(layout.shape, dtype=torch.bool, device=self.store[key].device)
            own = self.layouts[record.generation].get(key)
            if own is not None:
                bits = unpacked(record.masks[key], own.shape)
                mask[_corner(bits)] = bits
            found[key] = mask
        return found

    def _owned(self, names: Sequence[str]) -> dict[str, Bool[Tensor, "*bits"]]:
        found = {
            key: torch.zeros(layout.shape, dtype=torch.bool, device=self.store[key].device)
            for key, layout in self.layouts[-1].items()
        }
        for name in names:
            for key, mask in self._masks(name).items():
                found[key] |= mask
        return found

    def _weights(self, name: str) -> dict[str, Tensor]:
        """The masked weights of a task, in the shapes of the module that it was learned in."""
        record, found = self.record(name), {}
        for key, layout in self.layouts[record.generation].items():
            value = self.store[key][tuple(slice(n) for n in layout.weight)]
            mask = unpacked(record.masks[key], layout.shape)
            found[key] = torch.where(mask, value, torch.zeros_like(value))
        return found

    def _load_state(self, module: nn.Module, record: TaskRecord) -> None:
        there = module.state_dict()
        for key in record.state:
            there[key].copy_(record.state[key])


def _chosen(
    layout: MaskLayout, count: int, owned: Tensor, sharing: str, generator: torch.Generator
) -> Bool[Tensor, "*bits"]:
    """The mask of a new task on one weight."""
    if sharing == "drawn":
        return drawn_mask(layout, count, torch.ones_like(owned), generator)
    own = drawn_mask(layout, count, ~owned, generator)
    if sharing == "all":
        return own | owned
    short = count - int(own.sum())
    if sharing == "fill" and short:
        return own | drawn_mask(layout, short - short % layout.parts, owned, generator)
    return own


def _corner(inner: Tensor) -> tuple[slice, ...]:
    return tuple(slice(n) for n in inner.shape)


def _aliases(module: nn.Module, names: Mapping[str, Any]) -> set[str]:
    """All names under which a state dict has the named parameters: tied weights are in it once for every use."""
    chosen = {id(parameter) for name, parameter in module.named_parameters() if name in names}
    every = module.named_parameters(remove_duplicate=False)
    return {name for name, parameter in every if id(parameter) in chosen}
