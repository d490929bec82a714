"""What experiments share: scales, members tuned once, arms, measures, studies, claims and the verdict."""
