"""Wake or remove contacts that stopped answering, safely."""
