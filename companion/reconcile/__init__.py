"""Compare an MI dump with the store and correct the store."""
