"""Guards one account: every order intent is approved or refused here, with the numbers."""
