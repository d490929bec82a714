"""What stays uncertain about a prediction: P(c), an unobserved confounder, and the sample; sets with known coverage."""
