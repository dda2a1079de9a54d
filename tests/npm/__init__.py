"""Packages from npm that some tests need, pinned with their hashes in package-lock.json and kept in .npm/."""
