"""The derivatives of the T2 loss by the hyperparameters: one file for each way to estimate them."""
