"""The story of one product, played on a real cluster by signed transactions."""
