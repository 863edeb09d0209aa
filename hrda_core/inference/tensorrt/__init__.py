"""TensorRT: one engine (plan) from camera bytes to class ids, built on the machine that runs it. Needs no torch.

    api.py            differences between TensorRT 8.6, 10.x and 11.x, found by looking, never by version number
    builder.py        ONNX graph -> plan
    engine_key.py     what an engine is bound to, and its name
    engine_cache.py   engines on disk: checked, written whole, built once
    runner.py         plan -> outputs, by cuda-python

`../golden.py` asks whether the engine gives the labels that ONNX Runtime gives. `backends/tensorrt_engines.py` puts
these parts together: `ensure_engine`, `open_engine`. `hrda_core/nvidia_driver.py` asks for a driver and a GPU before
anything of TensorRT or CUDA is imported. For users: docs/robot/tensorrt.md.
"""
