"""The pure part of ingestion: what makes a source's frames one clean, ordered stream."""

from services.ingestion.core.normaliser import Normaliser

__all__ = ["Normaliser"]
