"""Images whose causes are known: the part world, its renderer and the A/B designs."""
