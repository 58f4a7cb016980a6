"""What perpflow runs on: the embedded platform in `local`, settings of the real servers beside it."""
