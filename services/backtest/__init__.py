"""Runs the services' own cores over recorded or simulated events in one process, and reports what came of it."""
