"""The robot side of HRDA: a lifecycle node that turns camera topics into class masks, and its parts that need no ROS.

Importing this package loads nothing. `segment_node` and `space` are the nodes; the rooms below them, from the top:
`services`, `health`, `masks`, `frames`, `model`, `start` and `settings`. What needs rclpy says so or subscribes,
publishes and serves; everything else takes numpy arrays and any object with the fields of the ROS message.
"""
