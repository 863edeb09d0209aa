"""A robot that drives down a simulated street by what the nodes make of masks: the parts of demo/drive_by_masks.py.

world       the street: flat ground, boxes and cylinders, and what a camera sees of it
costmap     what nav2's obstacle_layer does with points and scans, by its documented parameters
planner     the shortest way through a costmap, and the command that follows it
graph       the nodes as processes, and the topics of a camera; each frame is waited for
drive       one drive, step by step
picture     the ways of several drives from above
"""
