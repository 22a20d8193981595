"""quell: plan, simulate, run and read trials of immune-targeted therapy after a heart attack."""
