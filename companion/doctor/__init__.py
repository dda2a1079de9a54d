"""`companion doctor`: facts are gathered in one place, checked by pure functions, and told line by line."""
