"""S3 on loopback: moto's server with buckets and objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer

KEYS = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "example"}
REGION = "us-west-2"


@contextmanager
def serve_buckets(public: Mapping[str, Mapping[str, bytes]], **private: Mapping[str, bytes]) -> Iterator[str]:
    """Serves objects by bucket and key; gives the endpoint. Private buckets need `KEYS`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {f"aws_{name}": value for name, value in KEYS.items()}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name=REGION, **keys)
    try:
        for buckets, access in ((public, {"ACL": "public-read"}), (private, {})):
            for bucket, objects in buckets.items():
                client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}, **access)
                for key, body in objects.items():
                    client.put_object(Bucket=bucket, Key=key, Body=body, **access)
        yield f"http://{host}:{port}"
    finally:
        client.close()
        server.stop()
