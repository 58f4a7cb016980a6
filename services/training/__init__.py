"""Trains forecast models offline and exports them to ONNX with a manifest."""
