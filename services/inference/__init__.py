"""Turns feature vectors into forecasts with ONNX models, a champion and its shadows."""
