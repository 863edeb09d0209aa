"""The checks of `hrda doctor` that need no ROS. Each is a small function that returns findings and changes nothing.

    python_checks   the interpreter, numpy, OpenCV and PyYAML, the packages that commands need
    backend_checks  ONNX Runtime, OpenVINO, TensorRT, and the GPU
    bundle_checks   models open, their hashes are right, they answer like themselves; engines fit this machine
    machine_checks  folders that are written to, devices, disk, clock

The checks of ROS are those of `hrda_ros.doctor`, which is a process of its own.
"""
