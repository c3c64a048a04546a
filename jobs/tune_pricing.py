"""Estimate elasticities, tune and plan list prices."""

from promo_ray.cli.job import job_command

if __name__ == "__main__":
    job_command("tune_pricing", ["price"])()
