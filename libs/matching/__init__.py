"""What would have happened to our orders on the venue: books, queues, triggers, fees, latency. Pure."""

from libs.matching.fees import FeeModel
from libs.matching.latency import LatencyModel
from libs.matching.orders import BarFill, MatchingTerms
from libs.matching.paper_venue import PaperVenue

__all__ = ["BarFill", "FeeModel", "LatencyModel", "MatchingTerms", "PaperVenue"]
