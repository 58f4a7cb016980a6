"""Who may sign in: the users file, its roles and its credentials."""
