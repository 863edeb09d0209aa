"""The parameters of the nodes: tables, names, checks. Needs no rclpy."""
