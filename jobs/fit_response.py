"""Learn how each user responds to offers."""

from promo_ray.cli.job import job_command

if __name__ == "__main__":
    job_command("fit_response", ["response"])()
