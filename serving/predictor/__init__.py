"""KServe model server for ONNX bundles: `python -m serving.predictor`."""
