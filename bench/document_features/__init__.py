"""Documents written by other programs, each with one feature, and what a person sees in them."""
