"""The `hrda` command, one thin file a verb. Imported as `hrda_training`; `hrda_core` never depends on it."""
