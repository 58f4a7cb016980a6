"""What training computes without torch: bars, examples, labels, splits, scores. Pure; reads and writes no files."""
