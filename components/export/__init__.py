"""Turns the trained network into one ONNX graph that takes raw columns."""
