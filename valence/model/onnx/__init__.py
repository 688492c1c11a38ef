"""Write models as ONNX."""
