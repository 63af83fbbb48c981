"""What a study is: the spec, and the plan of runs that follows from it."""
