"""The way of a frame to the worker: slots, turns, limits, counters, and messages that belong together by stamp."""
