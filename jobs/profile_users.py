"""Describe every user: RFM, segments, clusters, features."""

from promo_ray.cli.job import job_command

if __name__ == "__main__":
    job_command("profile_users", ["profile"])()
