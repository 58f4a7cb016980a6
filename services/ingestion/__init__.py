"""Ingestion: exchange feeds, recorded files and the simulated market in, one ordered stream of market events out."""
