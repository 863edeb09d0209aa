"""OpenVINO: the same ONNX graphs on processors, GPUs and NPUs, compiled for the size of the images. Needs no torch.

    options.py           device and number format that the user asks for
    reading.py           ONNX graph -> OpenVINO's model of one image size, without what keeps layers from joining
    compiled_models.py   compiled models on disk: checked, written whole, compiled anew where anything differs
    compiler.py          ONNX graph -> compiled model that has passed its golden check

`backends/openvino_backend.py` runs them. For users: docs/robot/openvino.md.
"""
