"""Which model is better, decided without labels of the target: measures, judgement, rules."""
