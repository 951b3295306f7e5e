"""Engines for ONNX programs."""
