"""The `hrda` command: one file for each verb. The folder is imported as `hrda_training`.

`hrda_core` never depends on it.
"""
