"""``python -m services.console`` is ``perpflow``."""

from services.console.main import main

main()
