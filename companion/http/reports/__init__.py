"""The endpoint that browsers post media reports to."""
