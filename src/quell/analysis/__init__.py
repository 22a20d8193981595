"""What may be claimed: arrays in, claims out. Every kernel takes a batch of trials as readily as one study."""
