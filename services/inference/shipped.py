"""The model that ships, pinned: `perpflow train-models --starter` writes this line anew with the model."""

STARTER_SHA256 = "fb0b5537689b4fcb5baffd88188c3458d86c796bf9d11664268529c66b0eed69"
