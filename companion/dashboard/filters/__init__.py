"""Write filters into the address of a page, and read them back."""
