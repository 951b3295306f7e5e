"""Training: neuron laws, surrogates, encoders, data, models, published methods.

Importing this package does not import torch; its submodules do when they are first used.
"""
