"""Render what commands print, with rich. Text from the network is only text: it never controls the terminal."""
