"""Design the lifecycle plans that the config names."""

from promo_ray.cli.job import job_command

if __name__ == "__main__":
    job_command("design_plans", ["plans"])()
