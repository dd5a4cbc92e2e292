"""The cases of PyTorch. `run` trains one and returns its losses, rates, averages and final weights."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from common import CLASSES, INPUTS, STEPS, TARGETS

# Sums in one order only: with several threads the last bits could differ from run to run.
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


class FrameworkAverage:
    """PyTorch's own average, which starts as a copy of the weights after the first step."""

    def __init__(self, model, decay):
        # By keyword: the second positional argument is the device.
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def update(self, model):
        self.average.update_parameters(model)

    def model(self):
        return self.average.module


class ManualAverage:
    """e <- d e + (1 - d) w after every step, with d = decay(n) at the n-th update, n from 1.

    Starts at the initial weights; with `bias_correction` at zero, and the result is divided by 1 - d1 d2 ... dn.
    """

    def __init__(self, model, decay, bias_correction=False):
        # A second model holds the average, so that it is read out as the first one is.
        self.average = deepcopy(model)
        self.decay = decay
        self.updates = 0
        self.bias_correction = bias_correction
        self.weight_of_start = 1.0
        if bias_correction:
            with torch.no_grad():
                for e in self.average.parameters():
                    e.zero_()

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        d = self.decay(self.updates)
        self.weight_of_start *= d
        for e, w in zip(self.average.parameters(), model.parameters(), strict=True):
            e.copy_(d * e + (1.0 - d) * w)

    @torch.no_grad()
    def model(self):
        corrected = deepcopy(self.average)
        if self.bias_correction:
            for e in corrected.parameters():
                e.div_(1.0 - self.weight_of_start)
        return corrected


def warmup_decay(n):
    return min(0.99, (1 + n) / (10 + n))


def power_decay(n):
    s = n - 1
    return min(max(1.0 - (1.0 + s) ** (-2.0 / 3.0), 0.0), 0.999)


@dataclass(frozen=True)
class Case:
    optimizer: Callable
    model: str = "plain"
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    max_norm: float | None = None
    max_value: float | None = None
    # Batches whose mean gradient makes one step.
    accumulate: int = 1
    schedule: Callable | None = None
    average: Callable | None = None


adam = partial(Adam, lr=0.01)
sgd = partial(SGD, lr=0.1)
momentum = partial(SGD, lr=0.05, momentum=0.9)

CASES = {
    "sgd": Case(sgd),
    "momentum": Case(momentum),
    "nesterov": Case(partial(momentum, nesterov=True)),
    "sgd_decay": Case(partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.01)),
    "adam": Case(adam),
    "adamw": Case(partial(AdamW, lr=0.01, weight_decay=0.1)),
    "adam_clip": Case(adam, max_norm=0.5),
    "adam_clip_value": Case(adam, max_value=0.02),
    "smoothing": Case(adam, label_smoothing=0.1),
    "mse": Case(adam, loss="mse"),
    "bce": Case(adam, loss="bce"),
    "accumulate": Case(momentum, accumulate=5),
    "adam_ema": Case(adam, average=partial(FrameworkAverage, decay=0.9)),
    "adam_ema_warmup": Case(adam, average=partial(ManualAverage, decay=warmup_decay)),
    "adam_ema_power": Case(adam, average=partial(ManualAverage, decay=power_decay)),
    "adam_ema_bias": Case(adam, average=partial(ManualAverage, decay=lambda n: 0.95, bias_correction=True)),
    "norms": Case(adam, model="norms"),
    "norms_momentum": Case(momentum, model="norms"),
    "adamw_all": Case(partial(AdamW, lr=0.01, weight_decay=0.05), model="norms"),
    "cosine": Case(sgd, schedule=partial(lr_scheduler.CosineAnnealingLR, T_max=STEPS)),
    "one_cycle": Case(
        # The schedule sets the rate from the first step on.
        momentum,
        schedule=partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=STEPS, cycle_momentum=False),
    ),
    "step": Case(sgd, schedule=partial(lr_scheduler.StepLR, step_size=15, gamma=0.3)),
    "warmup": Case(sgd, schedule=partial(lr_scheduler.LinearLR, start_factor=0.1, total_iters=10)),
}


def build(name):
    if name == "plain":
        layers = {
            "hidden1": nn.Linear(INPUTS, 16),
            "relu": nn.ReLU(),
            "hidden2": nn.Linear(16, 8),
            "tanh": nn.Tanh(),
            "logits": nn.Linear(8, CLASSES),
        }
    else:
        layers = {
            "hidden1": nn.Linear(INPUTS, 16),
            "bn": nn.BatchNorm1d(16),
            "gelu": nn.GELU(),
            "hidden2": nn.Linear(16, 8),
            "ln": nn.LayerNorm(8),
            "sigmoid": nn.Sigmoid(),
            "logits": nn.Linear(8, CLASSES),
        }
    model = nn.Sequential()
    for layer, module in layers.items():
        model.add_module(layer, module)
    return model


def tensors(model):
    """The model's tensors under Keras' names, as views in Keras' layout, so that they can be read and written."""
    named = {}
    for layer, module in model.named_children():
        if isinstance(module, nn.Linear):
            named[f"{layer}/kernel"] = module.weight.detach().T
            named[f"{layer}/bias"] = module.bias.detach()
        elif isinstance(module, (nn.BatchNorm1d, nn.LayerNorm)):
            named[f"{layer}/gamma"] = module.weight.detach()
            named[f"{layer}/beta"] = module.bias.detach()
        if isinstance(module, nn.BatchNorm1d):
            named[f"{layer}/moving_mean"] = module.running_mean
            named[f"{layer}/moving_variance"] = module.running_var
    return named


def arrays(model):
    # A copy, as numpy() would go on changing with the weights; in C order, as kernels are transposed views.
    return {name: np.array(tensor.numpy(), order="C", copy=True) for name, tensor in tensors(model).items()}


def loss_of(case):
    if case.loss == "mse":
        return nn.MSELoss()
    if case.loss == "bce":
        return nn.BCEWithLogitsLoss()
    return nn.CrossEntropyLoss(label_smoothing=case.label_smoothing)


def run(case, data, initial, dtype=torch.float32):
    """Trains a case, one batch per step in order."""
    model = build(case.model).to(dtype)
    model.train()
    start = tensors(model)
    assert start.keys() == initial[case.model].keys()
    for name, array in initial[case.model].items():
        start[name].copy_(torch.from_numpy(array))
    result = {f"initial/{name}": array for name, array in arrays(model).items()}

    inputs = torch.from_numpy(data["x"]).to(dtype)
    targets = torch.from_numpy(data[TARGETS[case.loss]]).to(torch.int64 if case.loss == "cross_entropy" else dtype)

    parameters = list(model.parameters())
    optimizer = case.optimizer(parameters)
    schedule = case.schedule(optimizer) if case.schedule else None
    average = case.average(model) if case.average else None
    loss_function = loss_of(case)

    losses, rates, clipped = [], [], 0
    for step, (x, y) in enumerate(zip(inputs, targets, strict=True), 1):
        loss = loss_function(model(x), y)
        losses.append(loss.item())
        (loss / case.accumulate).backward()
        if step % case.accumulate:
            continue
        if case.max_norm is not None:
            clipped += nn.utils.clip_grad_norm_(parameters, case.max_norm).item() > case.max_norm
        if case.max_value is not None:
            clipped += max(p.grad.abs().max().item() for p in parameters) > case.max_value
            nn.utils.clip_grad_value_(parameters, case.max_value)
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        optimizer.zero_grad()
        if schedule:
            schedule.step()
        if average:
            average.update(model)

    # A limit that is never reached would test nothing.
    assert (clipped > 0) == (case.max_norm is not None or case.max_value is not None)

    result["losses"] = np.array(losses, np.float32 if dtype == torch.float32 else np.float64)
    if schedule:
        result["rates"] = np.array(rates, np.float64)
    result |= {f"final/{name}": array for name, array in arrays(model).items()}
    if average:
        result |= {f"average/{name}": array for name, array in arrays(average.model()).items()}
    return result
