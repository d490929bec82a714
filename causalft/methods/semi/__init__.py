"""Semi-supervised methods: learning from labelled and unlabelled images, under long tails of unlike laws."""
