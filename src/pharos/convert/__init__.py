"""Convert: ONNX files and Hugging Face configs become graphs; graphs become PyTorch."""
