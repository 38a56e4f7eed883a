"""Measures the ONNX model on the test slice."""
