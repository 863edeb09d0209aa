"""Pictures of a training step, figures of scores and curves, and the HTML reports, for people to look at."""
