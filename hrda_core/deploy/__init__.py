"""A trained network made ready for a robot: export, exact folds, precision."""
