"""Read, check and shard the data of a shop, or simulate one."""

from promo_ray.cli.job import job_command

if __name__ == "__main__":
    job_command("ingest_events", ["ingest"])()
