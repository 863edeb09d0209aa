"""The robot side of HRDA: a lifecycle node that turns camera topics into class masks, and its parts that need no ROS.

Importing this package loads nothing. Only `segment_node`, `publishers`, `process`, `reload_service`, `monitor` and
`topic_watch` need rclpy; the others take numpy arrays and any object with the fields of the ROS message.
"""
