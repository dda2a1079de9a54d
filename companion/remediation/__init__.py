"""From contacts that stopped answering to a push or a removal, safely."""
