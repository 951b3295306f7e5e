"""Edge runtimes: onnxruntime with state in and out, and what a dense runtime works per step.

Importing this package imports neither onnx nor onnxruntime; :mod:`sim.edge.native` does when it runs.
"""
