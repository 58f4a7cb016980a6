"""The words of the trade as frozen values: money, instruments, market events, orders, accounts. No I/O, no clock."""
