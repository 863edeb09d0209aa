"""What a person looks at: pictures of a training step, figures of scores and curves, the HTML report of a run."""
