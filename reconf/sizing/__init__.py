"""How many in series, how many in parallel, how many spare; what it weighs and costs."""
