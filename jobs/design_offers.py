"""Search the menu of offers."""

from promo_ray.cli.job import job_command

if __name__ == "__main__":
    job_command("design_offers", ["design"])()
