"""The model: estimators, scores and their bootstrap, comparison of two models, export to ONNX."""
