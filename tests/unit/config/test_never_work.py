"""Settings that can never work together, or at all, are refused with words."""

from __future__ import annotations

import pytest

from trow.config import SETTINGS, Config, ConfigError, load, yaml_text
from trow.config.values import Duration, Size

BIND = "TROW_LISTEN_BIND"
IN_A_BUCKET = {"TROW_STORAGE": "s3", "TROW_S3_BUCKET": "trow"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"TROW_LISTEN_PROBES": "127.0.0.1:8000"}, "listen.probes: 127.0.0.1:8000 is also the address of listen.bind"),
        ({BIND: "127.0.0.1:1,127.0.0.1:1"}, "listen.bind: 127.0.0.1:1 is also the address of listen.bind"),
        (
            {"TROW_REGISTRY_EMPTY_UPLOAD_EXPIRY": "2h"},
            "registry.empty_upload_expiry: is longer than registry.upload_expiry",
        ),
        ({"TROW_AUDIT_ENABLED": "false", "TROW_AUDIT_STDOUT": "true"}, "audit.stdout: has no effect without audit.en"),
        ({"TROW_AUDIT_ENABLED": "false", "TROW_AUDIT_FILE": "a"}, "audit.file: has no effect without audit.enabled"),
        ({"TROW_STORAGE": "s3"}, "s3.bucket: names no bucket"),
        ({"TROW_STORAGE": "s3", "TROW_S3_BUCKET": "s3://trow"}, "s3.bucket: names no bucket"),
        ({"TROW_S3_BUCKET": "trow"}, "s3.bucket: has no effect without storage: s3"),
        ({"TROW_S3_REDIRECT": "true"}, "s3.redirect: has no effect without storage: s3"),
        ({**IN_A_BUCKET, "TROW_S3_PREFIX": "trow"}, "s3.prefix: 'trow' begins with a slash, or ends without one"),
        ({**IN_A_BUCKET, "TROW_S3_PREFIX": "/trow/"}, "s3.prefix: '/trow/' begins with a slash"),
        ({**IN_A_BUCKET, "TROW_S3_KMS_KEY": "alias/a"}, "s3.kms_key: has no effect without s3.encryption: aws:kms"),
        ({**IN_A_BUCKET, "TROW_S3_PUBLIC_ENDPOINT": "https://b.example"}, "s3.public_endpoint: has no effect without"),
        ({**IN_A_BUCKET, "TROW_S3_CA_FILE": "/no/such/file"}, "s3.ca_file: /no/such/file cannot be read"),
    ],
)
def test_what_can_never_work_together_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(None, given, {})
    (problem,) = refused.value.problems
    assert said in str(problem)
    assert problem.fix


def test_addresses_that_the_kernel_chooses_are_never_the_same() -> None:
    assert load(None, {BIND: "127.0.0.1:0", "TROW_LISTEN_PROBES": "127.0.0.1:0"}, {}).listen.probes


@pytest.mark.parametrize("key", [key for key, setting in SETTINGS.items() if setting.kind in (Size, Duration)])
def test_sizes_and_durations_are_shown_with_their_unit(key: str) -> None:
    section, _, name = key.rpartition(".")
    value = getattr(getattr(Config(), section), name)
    assert value is None or yaml_text(value)[-1].isalpha()


@pytest.mark.parametrize(("size", "text"), [(0, "0B"), (512, "512B"), (1000, "1kB"), (4096, "4KiB"), (513, "513B")])
def test_a_size_is_written_with_its_unit_and_read_again(size: int, text: str) -> None:
    assert Size(size).text == text
    assert Size.parse(text) == size
