"""Whether probabilities mean what they say: of posteriors, credible regions and quantiles."""
