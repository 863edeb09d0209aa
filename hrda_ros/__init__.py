"""The robot side of HRDA: a lifecycle node that turns camera topics into class masks, and its ROS-free parts.

Importing this package loads nothing. Only `segment_node`, `publishers` and `monitor` need rclpy; the others take
numpy arrays and any object with the fields of the ROS message.
"""
