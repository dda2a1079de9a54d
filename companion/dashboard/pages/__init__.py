"""The pages, a file each: they ask the reader, show markup, and answer what is pressed."""
