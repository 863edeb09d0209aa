"""Decides without labels of the target which model is better: measures, judgement, rules."""
