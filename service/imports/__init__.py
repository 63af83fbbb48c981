"""Other people's searches, read from the files of Ray Tune and Optuna, as studies of fixed-hyperparameter runs."""
