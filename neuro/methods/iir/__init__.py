"""IIR-SNN (Chowdhury, Rathi, Roy 2021, arXiv 2110.05929): from an ANN to one time step, a few at a time.

ann                                trained with train(), one step, ReLU
convert(ann, images)               ReLU -> LearnedSpiking, thresholds from percentiles of the currents
IIR(schedule=(5, 4, 3, 2, 1)).run  train at T = 5, load into T = 4, train, ..., T = 1; and the control beside it
one_step(snn)                      the T = 1 network: threshold gates, no state, no leak
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
