"""Run the whole line: every stage that has its input, in order, resuming what is done."""

from promo_ray.cli.job import job_command
from promo_ray.pipeline import STAGE_NAMES

if __name__ == "__main__":
    job_command("run_campaign", list(STAGE_NAMES))()
