"""Fine-tuning of an operator transformer: the same network for other fields, and the learning rates of its parts.

Source: Herde et al., "Poseidon", NeurIPS 2024, appendix on fine-tuning, and the published training code for which
parameter is in which group.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from fieldwright.errors import InputError
from fieldwright.operators.inputs import check_counts
from fieldwright.operators.transformer import OperatorTransformer


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters by name that share a learning rate and a weight decay."""

    parameters: dict[str, nn.Parameter]
    learning_rate: float
    weight_decay: float


def for_channels(operator: OperatorTransformer, in_channels: int, out_channels: int) -> OperatorTransformer:
    """A copy of the operator for other numbers of fields.

    All weights are taken over but those whose shape says how many fields there are, which start afresh: the embedding's
    weight for other inputs; weight and bias of the recovery and its last convolution for other outputs.

    Errors: `InputError` for a number that is not positive.
    """
    check_counts(in_channels=in_channels, out_channels=out_channels)
    built: dict[str, Any] = operator._hub_mixin_config  # type: ignore[assignment]
    settings = {**built, "in_channels": in_channels, "out_channels": out_channels}
    fresh = OperatorTransformer(**settings)
    weights = fresh.state_dict()
    for name, weight in operator.state_dict().items():
        if weight.shape == weights[name].shape:
            weights[name] = weight
    fresh.load_state_dict(weights)
    kept = next(operator.parameters())
    return fresh.to(kept.device, kept.dtype).train(operator.training)


def fine_tuning_groups(
    operator: OperatorTransformer,
    *,
    backbone: float = 5e-5,
    fields: float = 5e-4,
    norms: float = 5e-4,
    weight_decay: float = 1e-6,
) -> dict[str, ParameterGroup]:
    """The parameters that are trained, each in one of four groups, as the published models are fine-tuned.

    The groups are those of `OperatorTransformer.parameter_groups`.

    ``backbone``      learning rate of "backbone", and of "biases", without weight decay
    ``fields``        learning rate of "fields"
    ``norms``         learning rate of "norms", without weight decay
    ``weight_decay``  of "backbone" and "fields"

    Errors: `InputError` for a rate or decay that is negative or not finite.
    """
    rates = {"backbone": backbone, "fields": fields, "norms": norms, "weight_decay": weight_decay}
    for name, rate in rates.items():
        if not 0 <= rate < float("inf"):
            raise InputError(f"{name}: {rate}; it must be a number that is not negative")
    trained = {name: parameter for name, parameter in operator.named_parameters() if parameter.requires_grad}
    members = {
        group: {name: trained[name] for name in names if name in trained}
        for group, names in operator.parameter_groups().items()
    }
    return {
        "backbone": ParameterGroup(members["backbone"], backbone, weight_decay),
        "fields": ParameterGroup(members["fields"], fields, weight_decay),
        "norms": ParameterGroup(members["norms"], norms, 0.0),
        "biases": ParameterGroup(members["biases"], backbone, 0.0),
    }
