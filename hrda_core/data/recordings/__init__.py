"""Camera recordings (rosbag2, MCAP, ROS 1 bags) as frames."""
