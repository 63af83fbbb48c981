"""What moves the parameters θ (inner) and the hyperparameters (outer)."""
