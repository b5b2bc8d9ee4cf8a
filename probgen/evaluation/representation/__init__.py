"""What latent numbers say of data."""
