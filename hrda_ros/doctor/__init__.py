"""The checks of `hrda doctor` that look at ROS. They are a process of their own, `python -m hrda_ros.doctor`, because
a library of ROS that does not fit can end the process that loads it. Each changes nothing.

    ros_checks     distribution, rclpy and messages, RMW, RViz, the folder of logs
    transport      Fast DDS's shared memory, the kernel's socket buffers
    graph_checks   joins the graph: the RMW works, who publishes the time, what a running node says
"""
