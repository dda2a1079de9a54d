"""Match mirrored SIP messages to devices, mask them, and explain them as a ladder. No I/O."""
