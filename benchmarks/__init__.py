"""How fast nsinspect is, beside what has to be paid anyway and beside others: see README.md."""
