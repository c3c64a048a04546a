"""Decide who gets which offer within the budget."""

from promo_ray.cli.job import job_command

if __name__ == "__main__":
    job_command("allocate_offers", ["allocate"])()
