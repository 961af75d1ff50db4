"""Run bundles: written once by lock, verified, compared and replayed."""
