"""Coverage-guided fuzzing of everything that reads what somebody else wrote.  See docs/fuzzing.md."""
