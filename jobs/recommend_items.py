"""Popular items, neighbors and top items per user."""

from promo_ray.cli.job import job_command

if __name__ == "__main__":
    job_command("recommend_items", ["recommend"])()
