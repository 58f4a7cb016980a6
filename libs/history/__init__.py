"""Past market data as files: collected page by page, imported from archives, checked."""
