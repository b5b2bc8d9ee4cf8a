"""What is typical of a model, and what is an outlier."""
