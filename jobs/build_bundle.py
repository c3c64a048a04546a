"""Write the bundle that serving loads."""

from promo_ray.cli.job import job_command

if __name__ == "__main__":
    job_command("build_bundle", ["bundle"])()
