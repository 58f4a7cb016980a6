"""The whole platform in one process, under a seeded scheduler and seeded mishaps: `perpflow simulate`."""
