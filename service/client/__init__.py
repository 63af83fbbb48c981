"""Studies from Python, and drivers on clusters: what a program on another machine asks for."""
