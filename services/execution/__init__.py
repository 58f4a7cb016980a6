"""Approved orders in, venue orders, fills and account state out."""
