"""Sources on S3: a moto server for the objects, DynamoDB Local for the curves, Dask processes that share nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import h5py
import pytest
from moto.core.authorization import enable_iam_authentication
from moto.server import ThreadedMotoServer
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from benchmarks.synthetic import write_calculation
from flows.store_hazard import run
from hazard_store.batch.discovery import DEFAULT_PATTERNS
from hazard_store.batch.examination import ReaderOptions
from hazard_store.batch.looking import Batch, Look
from hazard_store.batch.naming import read_manifest
from hazard_store.batch.sorting import Wanted
from hazard_store.errors import (
    CredentialsError,
    HazardStoreError,
    NotADatastoreError,
    SourceChangedError,
    SourceError,
    UsageError,
)
from hazard_store.jobs import Silent, StoreReport, StoreRequest
from hazard_store.layouts import LAYOUTS
from hazard_store.local.process import free_port
from hazard_store.names import CURVE_PARTS
from hazard_store.oq import open_calculation
from hazard_store.oq.trial import open_tried
from hazard_store.settings import Settings
from hazard_store.sources import folder_of, s3, s3_client, source_of
from hazard_store.sources.prefixes import PREFIXES_VARIABLE
from hazard_store.sources.reading import VARIABLE as READ_VARIABLE
from hazard_store.storage.models import table_name
from hazard_store.storing import store_in_process
from tasks.sources import VARIABLE as BLOCK_VARIABLE
from tasks.sources import use_credentials_block

pytestmark = pytest.mark.timeout(180)

BUCKET = "hazard-sources"
PAGE = 1_000  # keys in an answer of ListObjectsV2


@pytest.fixture(scope="module")
def moto_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def bucket(moto_endpoint: str, stage: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket to which the SDK's own variables lead, with nothing in it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_endpoint)
    s3_client.disconnect()
    made = boto3.resource("s3", region_name="us-east-1").create_bucket(Bucket=BUCKET)
    yield made
    made.objects.all().delete()
    made.delete()
    s3_client.connect_with({})
    s3_client.disconnect()


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 15 MB in two chunks, one for each worker."""
    path = tmp_path_factory.mktemp("synthetic") / "calc_1.hdf5"
    write_calculation(path, n_sites=200)
    return path


@pytest.fixture
def strangers(tables: Settings, prefect_server: object, tmp_path: Path) -> Iterator[str]:
    """A Dask scheduler and two workers in folders of their own, with nothing in common but some variables."""
    address = f"tcp://127.0.0.1:{free_port()}"
    dask = [sys.executable, "-m", "dask"]
    commands = [
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard"],
        *([[*dask, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]] * 2),
    ]
    passed = ("HAZARD_STORE_", "AWS_", "PREFECT_API_URL")
    processes = []
    for number, command in enumerate(commands):
        home = tmp_path / f"machine{number}"
        (home / "tmp").mkdir(parents=True)
        variables = {name: value for name, value in os.environ.items() if name.startswith(passed)}
        variables |= {"HOME": str(home), "TMPDIR": str(home / "tmp"), "PATH": os.environ["PATH"]}
        variables |= {"PYTHONPATH": str(Path(__file__).parents[2])}
        processes.append(
            subprocess.Popen(command, cwd=home, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
    try:
        yield address
    finally:
        for process in processes:
            process.kill()
            process.wait()


def workers_at(address: str) -> int:
    from distributed import Client

    with Client(address, set_as_default=False, timeout=120) as client:
        client.wait_for_workers(2, timeout=120)
        return len(client.scheduler_info(n_workers=-1)["workers"])


def curves_of(haz_sol_id: str, settings: Settings) -> list[str]:
    """All items of a calculation, without its id."""
    client = boto3.client("dynamodb", endpoint_url=settings.endpoint, region_name=settings.region)
    items = []
    for part in CURVE_PARTS:
        table = table_name(LAYOUTS["packed+solution"].table_base(part), settings)
        for page in client.get_paginator("scan").paginate(TableName=table):
            items += [repr(sorted(item.items())) for item in page["Items"]]
    return sorted(item.replace(haz_sol_id, "ID") for item in items if repr(haz_sol_id) in item)


def test_workers_that_share_no_file_system_store_what_a_local_store_does(
    bucket: Any,
    synthetic: Path,
    tables: Settings,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with zipfile.ZipFile(tmp_path / "calc.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
        zipped.write(synthetic, "calc_1.hdf5")
    store_in_process(StoreRequest(str(synthetic), "LOCAL"), tables)
    expected = curves_of("LOCAL", tables)
    address = request.getfixturevalue("strangers")
    assert workers_at(address) == 2
    for way, path in (("ranges", synthetic), ("whole", synthetic), ("zipped", tmp_path / "calc.zip")):
        bucket.upload_file(str(path), path.name)
        monkeypatch.setenv(READ_VARIABLE, "auto" if way == "zipped" else way)
        report: StoreReport = run(StoreRequest(f"s3://{BUCKET}/{path.name}", way), address, None, Silent())
        assert report.complete
        assert curves_of(way, tables) == expected

        size, read = path.stat().st_size, report.source_bytes()
        print(f"{way}: {size:,} bytes, read by worker: {sorted(read.values())}")
        assert len(read) == 2
        if way == "ranges":
            # Each curve once, and what every worker reads of headers and tables.
            assert max(read.values()) < size
            assert sum(read.values()) < 1.25 * size
        else:
            assert set(read.values()) == {size}


def test_the_way_is_chosen_from_size_and_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from hazard_store.sources.reading import Reading

    auto = Reading.from_environment({})
    assert not auto.by_ranges(size=240_000, share=1.0, workers=8, read_bytes=4 << 20)
    assert auto.by_ranges(size=450_000_000, share=1.0, workers=2, read_bytes=4 << 20)
    assert auto.by_ranges(size=450_000_000, share=0.01, workers=1, read_bytes=4 << 20)
    # One worker that stores all of it reads all of it either way.
    assert not auto.by_ranges(size=450_000_000, share=1.0, workers=1, read_bytes=4 << 20)
    # Nor is anything gained where each worker has to search an index of chunks first.
    assert not auto.by_ranges(size=450_000_000, share=0.01, workers=8, read_bytes=4 << 20, chunked=True)
    for word in ("ranges", "whole"):
        forced = Reading.from_environment({READ_VARIABLE: word})
        assert forced.by_ranges(240_000, 1.0, 1, 4 << 20) is (word == "ranges")
    with pytest.raises(UsageError, match="must be one of auto, ranges, whole"):
        Reading.from_environment({READ_VARIABLE: "fetch"})


def test_an_object_that_changes_or_goes_ends_the_store(bucket: Any, data_dir: Path, tables: Settings) -> None:
    url, content = f"s3://{BUCKET}/calc_1.hdf5", (data_dir / "custom_ids.hdf5").read_bytes()
    made = bucket.put_object(Key="calc_1.hdf5", Body=content)
    with open_tried(url) as calculation:
        made.put(Body=content[:-1] + b"x")
        with pytest.raises(SourceChangedError, match=r"changed while in use .*; wait until nothing writes to it"):
            calculation.check_unchanged()
        made.delete()
        with pytest.raises(SourceChangedError, match="is no longer there; put it back"):
            calculation.check_unchanged()


def test_ranges_are_all_of_one_content(bucket: Any, synthetic: Path) -> None:
    bucket.upload_file(str(synthetic), "calc_1.hdf5")
    url, made = f"s3://{BUCKET}/calc_1.hdf5", bucket.Object("calc_1.hdf5")
    with open_calculation(url, ranges=True) as calculation, open_calculation(synthetic) as local:
        assert (calculation.read("realisations", 0, 50) == local.read("realisations", 0, 50)).all()
        assert calculation.take_fetched_bytes() < synthetic.stat().st_size / 2
        made.put(Body=synthetic.read_bytes()[:-1] + b"x")
        with pytest.raises(SourceChangedError, match="changed while in use"):
            calculation.read("realisations", 100, 150)
        made.delete()
        with pytest.raises(SourceChangedError, match="no longer there"):
            calculation.read("realisations", 150, 200)


def test_chunked_curves_are_read_by_smaller_blocks(bucket: Any, synthetic: Path, tmp_path: Path) -> None:
    chunked = tmp_path / "chunked.hdf5"
    with h5py.File(synthetic) as read, h5py.File(chunked, "w") as written:
        written.attrs.update(read.attrs)
        for name in read:
            if name.startswith("hcurves"):
                written.create_dataset(name, data=read[name][:], chunks=True, compression="gzip")
                written[name].attrs.update(read[name].attrs)
            else:
                read.copy(name, written)
    bucket.upload_file(str(chunked), "chunked.hdf5")
    with open_tried(chunked) as local:
        assert local.has_chunked_curves
        expected = local.read("realisations", 0, 25)
    fetched = {}
    for known in (False, True):
        with open_calculation(f"s3://{BUCKET}/chunked.hdf5", ranges=True, chunked=known) as calculation:
            assert (calculation.read("realisations", 0, 25) == expected).all()
            fetched[known] = calculation.take_fetched_bytes()
    print(f"chunked: {chunked.stat().st_size:,} bytes, an eighth of its sites read with {fetched}")
    assert fetched[True] < fetched[False] / 2


def test_a_prefix_is_listed_page_by_page(bucket: Any, tables: Settings, data_dir: Path) -> None:
    # One page more than an answer holds; moto has no smaller ones.
    for number in range(PAGE + 5):
        bucket.put_object(Key=f"night/{number % 7}/calc_{number}.hdf5", Body=b"x")
    for key in ("night/calc_7_tmp.hdf5", "night/notes.txt", "night/.trash/calc_9.hdf5", "nightly/calc_1.hdf5"):
        bucket.put_object(Key=key, Body=b"x")
    folder = folder_of(f"s3://{BUCKET}/night/")
    listing = folder.listing(DEFAULT_PATTERNS)
    assert len(listing.files) == PAGE + 5
    assert listing.files[0].name == "0/calc_0.hdf5"
    assert listing.files[0].path == f"s3://{BUCKET}/night/0/calc_0.hdf5"
    assert source_of(listing.files[0].path).stamp() == listing.files[0].stamp
    assert [file.name for file in folder.listing(["3/calc_1?.hdf5"]).files] == ["3/calc_10.hdf5", "3/calc_17.hdf5"]


def test_a_batch_is_found_and_examined_on_s3(bucket: Any, tables: Settings, data_dir: Path) -> None:
    bucket.upload_file(str(data_dir / "custom_ids.hdf5"), "night/calc_1.hdf5")
    bucket.upload_file(str(data_dir / "preclassical.hdf5"), "night/calc_2.hdf5")
    bucket.put_object(Key="night/ids.csv", Body=b"file,haz_sol_id\ncalc_1.hdf5,ONE\ncalc_2.hdf5,TWO\n")
    prefix = f"s3://{BUCKET}/night"
    wanted = Wanted(LAYOUTS["packed+solution"], ReaderOptions())
    options = {"patterns": DEFAULT_PATTERNS, "template": "{stem}", "settle_secs": 0.0}
    batch = Batch.of(prefix, wanted, manifest="ids.csv", **options)
    assert read_manifest(folder_of(prefix), f"{prefix}/ids.csv") == {"calc_1.hdf5": "ONE", "calc_2.hdf5": "TWO"}
    look = Look(batch, tables)
    look.settle(time.time())
    fates = {str(name): look.read(file, name)[0].fate for file, name in look.unread}
    assert fates == {"ONE": "to store", "TWO": "refused"}
    # What was refused is remembered by its ETag, what was stored by the ledger's.
    store_in_process(StoreRequest(f"{prefix}/calc_1.hdf5", "ONE"), tables)
    again = Look(batch, tables)
    assert {str(found.haz_sol_id): found.fate for found in again.findings} == {"ONE": "stored before", "TWO": "refused"}
    assert not again.unread


def test_what_s3_refuses_is_reported_once_and_read_when_it_may_be(
    bucket: Any, tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.upload_file(str(data_dir / "custom_ids.hdf5"), "night/calc_1.hdf5")
    wanted = Wanted(LAYOUTS["packed+solution"], ReaderOptions())
    batch = Batch(folder_of(f"s3://{BUCKET}/night"), wanted, settle_secs=0.0)

    def look() -> tuple[str, bool, str]:
        one = Look(batch, tables)
        one.settle(time.time())
        ((file, name),) = one.unread
        finding, _ = one.read(file, name)
        return finding.fate, finding.is_news, finding.reason or ""

    def refuse(self: s3.S3Object) -> None:
        raise PermissionError("Access Denied")

    with monkeypatch.context() as denied:
        denied.setattr(s3.S3Object, "_ask", refuse)
        (fate, is_news, reason), again = look(), look()
    assert (fate, is_news, again[:2]) == ("failed", True, ("failed", False))
    assert "these credentials need s3:GetObject" in reason
    assert look()[:2] == ("to store", True)


def test_sources_stay_within_the_allowed_prefix(bucket: Any, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("in/calc_1.hdf5", "inner/calc_1.hdf5"):
        bucket.upload_file(str(data_dir / "custom_ids.hdf5"), key)
    monkeypatch.setenv(PREFIXES_VARIABLE, f"s3://{BUCKET}/in")
    open_tried(f"s3://{BUCKET}/in/calc_1.hdf5").close()
    folder_of(f"s3://{BUCKET}/in")
    for outside in (f"s3://{BUCKET}/inner/calc_1.hdf5", "s3://other-bucket/in/calc_1.hdf5", f"s3://{BUCKET}/in/../x"):
        with pytest.raises(UsageError, match="outside the folders that may be read here"):
            source_of(outside)
    for outside in (f"s3://{BUCKET}", f"s3://{BUCKET}/inner"):
        with pytest.raises(UsageError, match="outside the folders that may be read here"):
            folder_of(outside)
    with pytest.raises(UsageError, match="outside the folders"):
        read_manifest(folder_of(f"s3://{BUCKET}/in"), f"s3://{BUCKET}/inner/calc_1.hdf5")


@pytest.mark.parametrize(
    ("url", "error", "text"),
    [
        ("s3://hazard-sources/calc_9.hdf5", NotADatastoreError, "no such object; check its name"),
        ("s3://hazard-sources/folder", NotADatastoreError, "is a folder"),
        ("s3://no-such-bucket/calc_9.hdf5", NotADatastoreError, "there is no bucket no-such-bucket; check its name"),
        ("s3://hazard-sources", UsageError, "names no object"),
        ("s3://hazard-sources/folder/", UsageError, "names no object"),
        ("s3:///calc_1.hdf5", UsageError, "names no bucket"),
        ("s3://Hazard/calc_1.hdf5", UsageError, "names no bucket"),
        ("s3://hazard-sources/calc_1.hdf5?versionId=3", UsageError, "has a `.`"),
        ("https://hazard-sources.s3.amazonaws.com/calc_1.hdf5", UsageError, "give a path of this machine, or s3://"),
        ("s3://hazard-sources/text.hdf5", NotADatastoreError, "neither an HDF5 file nor a zip"),
        ("s3://hazard-sources/empty.hdf5", NotADatastoreError, "is empty"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(
    url: str, error: type[HazardStoreError], text: str, bucket: Any
) -> None:
    bucket.put_object(Key="folder/calc_1.hdf5", Body=b"x")
    bucket.put_object(Key="text.hdf5", Body=b"some text, and not HDF5")
    bucket.put_object(Key="empty.hdf5", Body=b"")
    with pytest.raises(error, match=text) as caught:
        open_tried(url).close()
    assert type(caught.value) is error or issubclass(type(caught.value), error)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"AWS_DEFAULT_REGION": "new zealand"}, "set AWS_DEFAULT_REGION to a region of AWS, such as us-east-1"),
        ({"AWS_ENDPOINT_URL_S3": "localhost:4566"}, "Invalid endpoint: localhost:4566: set AWS_ENDPOINT_URL"),
    ],
)
def test_settings_that_mean_nothing_are_told(
    variables: dict[str, str], text: str, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    s3_client.disconnect()
    with pytest.raises(UsageError, match=text):
        source_of(f"s3://{BUCKET}/calc_1.hdf5")


def test_who_may_not_read_an_object_is_told_what_is_needed(
    bucket: Any, moto_endpoint: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By moto's own evaluation of a user's policies, of which there are none at first."""
    bucket.upload_file(str(data_dir / "custom_ids.hdf5"), "calc_1.hdf5")
    iam = boto3.client("iam", endpoint_url=moto_endpoint, region_name="us-east-1")
    iam.create_user(UserName="modeller")
    keys = iam.create_access_key(UserName="modeller")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys["SecretAccessKey"])
    s3_client.disconnect()
    url = f"s3://{BUCKET}/calc_1.hdf5"
    with enable_iam_authentication():
        with pytest.raises(
            SourceError, match=r"\(403\): these credentials need s3:GetObject for it, and s3:ListBucket"
        ):
            source_of(url)
        with pytest.raises(SourceError, match=r"\(403\): these credentials need"):
            folder_of(f"s3://{BUCKET}/night").listing(DEFAULT_PATTERNS)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of somebody else")
        s3_client.disconnect()
        with pytest.raises(CredentialsError, match=r"refuses these AWS credentials \(SignatureDoesNotMatch\)"):
            source_of(url)


class _Refusing(BaseHTTPRequestHandler):
    """An S3 that refuses everything as it is told: what moto's accounts cannot be brought to say."""

    answer: tuple[int, str, dict[str, str]] = (403, "AccessDenied", {})

    def _refuse(self) -> None:
        status, code, headers = self.answer
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = _refuse

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        ((403, "AccessDenied", {}), SourceError, "these credentials need s3:GetObject for it"),
        (
            (301, "PermanentRedirect", {"x-amz-bucket-region": "eu-west-1"}),
            SourceError,
            "in another region; .*eu-west-1",
        ),
        ((400, "ExpiredToken", {}), CredentialsError, "the AWS credentials have expired: log in anew"),
        ((403, "InvalidAccessKeyId", {}), CredentialsError, "S3 refuses these AWS credentials"),
        ((503, "SlowDown", {}), SourceError, "S3 could not give it|S3 does not answer"),
    ],
)
def test_what_s3_refuses_is_told_with_its_remedy(
    answer: tuple[int, str, dict[str, str]],
    error: type[HazardStoreError],
    text: str,
    stage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Refusing", (_Refusing,), {"answer": answer}))
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(s3_client, "RETRIES", 1)
    s3_client.disconnect()
    try:
        began = time.monotonic()
        with pytest.raises(error, match=text):
            source_of("s3://hazard-sources/calc_1.hdf5")
        assert time.monotonic() - began < 30
    finally:
        server.shutdown()
        server.server_close()
        s3_client.disconnect()


def test_an_s3_that_does_not_answer_is_told_in_time(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    s3_client.disconnect()
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"S3 does not answer .*check the network, AWS_ENDPOINT_URL and the region"):
        source_of("s3://hazard-sources/calc_1.hdf5")
    assert time.monotonic() - began < 60
    s3_client.disconnect()


def test_without_credentials_s3_is_not_asked(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3_client.disconnect()
    with pytest.raises(CredentialsError, match=r"no AWS credentials .*set AWS_PROFILE"):
        source_of(f"s3://{BUCKET}/calc_1.hdf5")


def test_a_block_gives_credentials_and_endpoint(
    bucket: Any, moto_endpoint: str, prefect_server: object, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.upload_file(str(data_dir / "custom_ids.hdf5"), "calc_1.hdf5")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv(BLOCK_VARIABLE, "sources-of-a-test")
    with pytest.raises(CredentialsError, match="no block aws-credentials/sources-of-a-test"):
        use_credentials_block()
    AwsCredentials(
        aws_access_key_id="of the block",
        aws_secret_access_key=SecretStr("of the block as well"),
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=moto_endpoint),
    ).save("sources-of-a-test")
    use_credentials_block()
    open_tried(f"s3://{BUCKET}/calc_1.hdf5").close()
    assert s3_client.filesystem().key == "of the block"
