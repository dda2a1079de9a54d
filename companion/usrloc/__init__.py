"""Contacts, devices, their status and switch-overs, moved on by events. No I/O."""
