"""The filters in a page's URL."""
