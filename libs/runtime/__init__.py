"""The shell, written once: it polls, decodes, drops duplicates, calls the core and commits everything in one go."""
