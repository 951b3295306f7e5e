"""IIR-SNN (Chowdhury, Rathi, Roy 2021, arXiv 2110.05929): from an ANN to one time step, a few at a time.

ann                                trained with train(), one step, ReLU
convert(ann, images)               ReLU -> LearnedSpiking, thresholds from percentiles of the currents
IIR(schedule=(5, 4, 3, 2, 1)).run  train at T = 5, load into T = 4, train, ..., T = 1; and the control beside it
one_step(snn)                      the T = 1 network: threshold gates, no state, no leak

Measured (``examples/iir_mnist.py``, 8000 MNIST digits, 800 of them for validation, tested on 2000, a VGG5 of 1.31 M
MAC, seed 0, 2 epochs a stage): ANN 98.70 %; converted only 92.75 at T = 5, 20.85 at T = 1; stages T = 5 to 1: 98.45,
98.30, 98.65, 98.30, 98.15; control, T = 1 directly with as many epochs, 98.55, within the spread of seeds. Spikes
a neuron 0.13, 0.12, 0.08, 0.24 at T = 1. Arithmetic against the ANN at T = 1: 9.0 times less with float prices, 13.9
with integer ones, each spike an addition for every weight it meets (11.6 and 14.7 by the published count, which takes a
mean over four pixels for one spike). One ONNX pass 98.15; integer chip, weights of 8 bits, no tuning, 98.05.
Seeds 0, 1, 2: T = 5 98.45, 98.60, 98.15; T = 1 98.15, 98.30, 97.95; control 98.55, 97.95, 97.80; chip 98.05, 98.05,
98.00.
"""

from neuro.methods.iir.convert import (
    HeldInput,
    calibrate,
    convert,
    deployed,
    one_step,
    percentile,
    populations,
    set_steps,
    spikes,
)
from neuro.methods.iir.recipe import (
    ANN_CIFAR,
    ANN_CIFAR_NORM,
    ANN_IMAGENET,
    SNN_CIFAR,
    DirectBPTT,
    Recipe,
    amsgrad,
    cross_entropy,
    sgd,
    train_ann,
)
from neuro.methods.iir.report import IIRResult, StageResult
from neuro.methods.iir.stages import IIR

__all__ = [
    "ANN_CIFAR",
    "ANN_CIFAR_NORM",
    "ANN_IMAGENET",
    "IIR",
    "SNN_CIFAR",
    "DirectBPTT",
    "HeldInput",
    "IIRResult",
    "Recipe",
    "StageResult",
    "amsgrad",
    "calibrate",
    "convert",
    "cross_entropy",
    "deployed",
    "one_step",
    "percentile",
    "populations",
    "set_steps",
    "sgd",
    "spikes",
    "train_ann",
]
