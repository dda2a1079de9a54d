"""Check a set-up: gather facts in one place, judge them by pure functions, print line by line."""
