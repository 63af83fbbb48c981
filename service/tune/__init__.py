"""What speaks to Ray Tune: T1-T2 as a trainable, Tune's search spaces in specs, and rivals at equal compute."""
