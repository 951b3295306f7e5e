"""Training methods, one a file. Each is a value with one call:

    method(model, loss, x, y) -> (mean loss, sum over t of o[t])

It runs ``x (N, T, ...)`` forward and the loss backward through :func:`neuro.losses.backward`, adds to parameters'
gradients, steps no optimizer.
The loss of a batch is ``L = (1/T) sum_t loss(o[t], y)``.

:mod:`neuro.methods.qat` is no such value: it makes a model whose forward pass is on the chip's grid, for any of them.
"""
