"""Makes a bucket in the S3 store, or finds it there. The bucket service of docker-compose.yml runs it once.

python make_bucket.py NAME
"""

import os
import sys

import boto3


def main(name: str) -> None:
    """Makes the bucket where it is missing."""
    store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    there = [bucket["Name"] for bucket in store.list_buckets()["Buckets"]]
    if name not in there:
        store.create_bucket(Bucket=name)
    print(f"{name}: {'there' if name in there else 'made'}")


if __name__ == "__main__":
    main(sys.argv[1])
