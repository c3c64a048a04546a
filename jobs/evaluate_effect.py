"""Prove what the policy earns and write the report."""

from promo_ray.cli.job import job_command

if __name__ == "__main__":
    job_command("evaluate_effect", ["evaluate"])()
