"""The cases of Keras on JAX. `run` trains one and returns its losses, averages and final weights."""

import os

# Read when keras and jax are imported.
os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import keras
import numpy as np
from keras import layers, losses
from keras.optimizers import SGD, Adam, AdamW

from common import CLASSES, INPUTS, TARGETS


@dataclass(frozen=True)
class Case:
    optimizer: Callable
    model: str = "plain"
    loss: str = "cross_entropy"


adam = partial(Adam, learning_rate=0.01)
momentum = partial(SGD, learning_rate=0.05, momentum=0.9)

CASES = {
    "sgd": Case(partial(SGD, learning_rate=0.1)),
    "momentum": Case(momentum),
    "nesterov": Case(partial(momentum, nesterov=True)),
    "adam": Case(adam),
    "adamw": Case(partial(AdamW, learning_rate=0.01, weight_decay=0.1)),
    "adam_clip": Case(partial(adam, global_clipnorm=0.5)),
    "adam_ema": Case(partial(adam, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=None)),
    "norms": Case(adam, model="norms"),
    "norms_momentum": Case(momentum, model="norms"),
    "mse": Case(adam, loss="mse"),
    "bce": Case(adam, loss="bce"),
}

LOSSES = {
    "cross_entropy": partial(losses.SparseCategoricalCrossentropy, from_logits=True),
    "mse": losses.MeanSquaredError,
    "bce": partial(losses.BinaryCrossentropy, from_logits=True),
}


def build(name):
    if name == "plain":
        stack = [
            layers.Dense(16, activation="relu", name="hidden1"),
            layers.Dense(8, activation="tanh", name="hidden2"),
            layers.Dense(CLASSES, name="logits"),
        ]
    else:
        stack = [
            layers.Dense(16, name="hidden1"),
            layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name="bn"),
            # The exact form, by erf: said, not left to a default.
            layers.Activation(partial(keras.activations.gelu, approximate=False), name="gelu"),
            layers.Dense(8, name="hidden2"),
            layers.LayerNormalization(epsilon=1e-3, name="ln"),
            layers.Activation("sigmoid", name="sigmoid"),
            layers.Dense(CLASSES, name="logits"),
        ]
    return keras.Sequential([keras.Input((INPUTS,)), *stack])


def variables(model):
    return {f"{layer.name}/{variable.name}": variable for layer in model.layers for variable in layer.weights}


def arrays(model):
    return {name: np.array(variable.value, order="C", copy=True) for name, variable in variables(model).items()}


def assign(to, values):
    for variable, value in zip(to, values, strict=True):
        variable.assign(value)


def run(case, data, initial):
    """Trains a case, one batch per step in order.

    A loop of its own, as the loss `train_on_batch` returns is a running mean over the batches so far.
    """
    keras.backend.clear_session()
    model = build(case.model)
    start = variables(model)
    assert start.keys() == initial[case.model].keys()
    for name, array in initial[case.model].items():
        start[name].assign(array)
    result = {f"initial/{name}": array for name, array in arrays(model).items()}

    optimizer = case.optimizer()
    optimizer.build(model.trainable_variables)
    loss_function = LOSSES[case.loss]()

    def loss_and_statistics(trainable, other, x, y):
        logits, other = model.stateless_call(trainable, other, x, training=True)
        return loss_function(y, logits), other

    @jax.jit
    def step(trainable, other, state, x, y):
        gradients_of = jax.value_and_grad(loss_and_statistics, has_aux=True)
        (loss, other), gradients = gradients_of(trainable, other, x, y)
        trainable, state = optimizer.stateless_apply(state, gradients, trainable)
        return loss, trainable, other, state

    trainable = [variable.value for variable in model.trainable_variables]
    other = [variable.value for variable in model.non_trainable_variables]
    state = [variable.value for variable in optimizer.variables]
    batch_losses = []
    for x, y in zip(data["x"], data[TARGETS[case.loss]], strict=True):
        loss, trainable, other, state = step(trainable, other, state, x, y)
        batch_losses.append(float(loss))

    assign(model.trainable_variables, trainable)
    assign(model.non_trainable_variables, other)
    assign(optimizer.variables, state)
    result["losses"] = np.array(batch_losses, np.float32)
    result |= {f"final/{name}": array for name, array in arrays(model).items()}
    if optimizer.use_ema:
        # Overwrites the weights with the averages; the weights are safe by now.
        optimizer.finalize_variable_values(model.trainable_variables)
        result |= {f"average/{name}": array for name, array in arrays(model).items()}
    return result
