from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import factories
from factories import DOCKER_IMAGE, DOCKER_LIST, OCI_CONFIG, OCI_IMAGE, OCI_INDEX, OCI_LAYER
from trow.oci import media
from trow.oci.errors import ManifestInvalid
from trow.oci.manifest import Manifest, parse

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
MEMBERS = ["schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations"]
DIGEST = "sha256:" + "a" * 64


def changed(original: factories.Manifest, change: Callable[[dict[str, Any]], object]) -> bytes:
    document = original.document
    change(document)
    return json.dumps(document).encode()


def read(raw: bytes, content_type: str = OCI_IMAGE) -> Manifest:
    return parse(raw, content_type)


# What is accepted


@pytest.mark.parametrize("made", [factories.image(), factories.image(0), factories.docker_image()])
def test_image_refers_to_its_config_and_layers(made: factories.Manifest) -> None:
    manifest = parse(made.raw, made.media_type)
    assert manifest.raw is made.raw
    assert manifest.media_type == made.media_type
    assert [(b.digest, b.size, b.media_type) for b in manifest.blobs] == [
        (b.digest, b.size, b.media_type) for b in made.blobs
    ]
    assert (manifest.children, manifest.subject, manifest.foreign) == ((), None, False)


@pytest.mark.parametrize("made", [factories.index(), factories.index([]), factories.docker_list([factories.image()])])
def test_index_refers_to_its_manifests(made: factories.Manifest) -> None:
    manifest = parse(made.raw, made.media_type)
    assert manifest.blobs == ()
    assert [(c.digest, c.size, c.media_type) for c in manifest.children] == [
        (c.digest, c.size, c.media_type) for c in made.children
    ]


@pytest.mark.parametrize(
    ("made", "artifact_type"),
    [
        (factories.image(), OCI_CONFIG),
        (factories.image(artifact_type="application/x"), "application/x"),
        (factories.image(artifact_type=""), OCI_CONFIG),
        (factories.artifact("application/vnd.example.sbom"), "application/vnd.example.sbom"),
        (factories.index(), None),
        (factories.index(artifact_type="application/x"), "application/x"),
        (factories.index(artifact_type=""), None),
    ],
)
def test_artifact_type_is_its_own_or_that_of_the_config(made: factories.Manifest, artifact_type: str | None) -> None:
    assert parse(made.raw, made.media_type).artifact_type == artifact_type


@pytest.mark.parametrize("make", [factories.image, factories.index, factories.artifact])
def test_subject_and_annotations(make: Callable[..., factories.Manifest]) -> None:
    subject = factories.image()
    made = make(subject=subject, annotations={"org.example": "é", "": ""})
    manifest = parse(made.raw, made.media_type)
    assert manifest.subject == subject.digest
    assert manifest.annotations == {"org.example": "é", "": ""}


@pytest.mark.parametrize(
    "content_type", [OCI_IMAGE, "", f"{OCI_IMAGE}; charset=utf-8", OCI_IMAGE.upper(), f" {OCI_IMAGE} "]
)
def test_content_type_and_media_type_agree(content_type: str) -> None:
    assert parse(factories.image().raw, content_type).media_type == OCI_IMAGE


@pytest.mark.parametrize("media_type", sorted(media.MANIFESTS))
def test_media_type_may_be_in_the_header_alone(media_type: str) -> None:
    made = factories.image() if media_type in media.IMAGES else factories.index()
    raw = changed(made, lambda d: d.pop("mediaType"))
    assert parse(raw, media_type).media_type == media_type


def test_sha512_and_unknown_members_are_fine() -> None:
    layer = factories.blob()
    raw = changed(
        factories.image(0),
        lambda d: d.update(layers=[layer.descriptor | {"digest": layer.sha512, "x": 1}], x={"y": [None]}),
    )
    assert read(raw).blobs[1].digest == layer.sha512


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ],
)
def test_foreign_layer_need_not_be_here(media_type: str) -> None:
    foreign = {"mediaType": media_type, "digest": DIGEST, "size": 10**12, "urls": ["https://elsewhere.example/layer"]}
    made = factories.image(1)
    manifest = read(changed(made, lambda d: d["layers"].append(foreign)))
    assert manifest.foreign
    assert [blob.digest for blob in manifest.blobs] == [blob.digest for blob in made.blobs]


def test_embedded_data_is_the_content_that_is_named() -> None:
    config = factories.blob(20, OCI_CONFIG)
    data = base64.b64encode(config.content).decode()
    raw = changed(factories.image(), lambda d: d.update(config=config.descriptor | {"data": data}))
    assert read(raw).blobs[0].digest == config.digest


@pytest.mark.parametrize("wrong", [{"digest": DIGEST}, {"data": "YQ=="}])
def test_embedded_data_that_is_something_else(wrong: dict[str, Any]) -> None:
    config = factories.blob(20, OCI_CONFIG)
    data = base64.b64encode(config.content).decode()
    raw = changed(factories.image(), lambda d: d.update(config=config.descriptor | {"data": data} | wrong))
    with pytest.raises(ManifestInvalid, match="not the content that its digest names"):
        read(raw)


@pytest.mark.parametrize("size", [19, 21, 0, None])
def test_embedded_data_tells_that_a_size_is_wrong(size: int | None) -> None:
    config = factories.blob(20, OCI_CONFIG)
    data = base64.b64encode(config.content).decode()
    raw = changed(factories.image(0), lambda d: d.update(config=config.descriptor | {"data": data, "size": size}))
    manifest = read(raw)
    assert manifest.unsized == (config.digest,)
    assert manifest.blobs[0].size is None


# Null is nothing: most clients are written in Go


@pytest.mark.parametrize("content_type", [OCI_IMAGE, DOCKER_IMAGE])
@pytest.mark.parametrize("change", [{"layers": None}, {"layers": []}, {}])
def test_image_without_layers(change: dict[str, Any], content_type: str) -> None:
    document = {k: v for k, v in factories.image().document.items() if k != "layers"}
    raw = json.dumps(document | {"mediaType": content_type} | change).encode()
    manifest = read(raw, content_type)
    assert [blob.digest for blob in manifest.blobs] == [document["config"]["digest"]]
    assert manifest.raw is raw


@pytest.mark.parametrize("content_type", [OCI_INDEX, DOCKER_LIST])
@pytest.mark.parametrize("change", [{"manifests": None}, {"manifests": []}, {}])
def test_index_without_manifests(change: dict[str, Any], content_type: str) -> None:
    raw = json.dumps({"schemaVersion": 2, "mediaType": content_type} | change).encode()
    assert read(raw, content_type).children == ()


def test_null_members_of_the_other_kind_say_nothing() -> None:
    image = changed(factories.image(), lambda d: d.update(manifests=None))
    index = changed(factories.index(), lambda d: d.update(config=None, layers=None))
    assert len(read(image).blobs) == 3
    assert len(parse(index, OCI_INDEX).children) == 2


@pytest.mark.parametrize("name", [name for name in MEMBERS if name not in ("schemaVersion", "config")])
@pytest.mark.parametrize("content_type", [OCI_IMAGE, OCI_INDEX])
def test_null_member_is_one_that_is_not_there(name: str, content_type: str) -> None:
    def bare(document: dict[str, Any]) -> None:
        document.pop(name, None)

    made = (factories.image if content_type == OCI_IMAGE else factories.index)(
        subject=factories.image(), annotations={"a": "b"}, artifact_type="application/x"
    )
    without = read(changed(made, bare), content_type)
    null = read(changed(made, lambda d: d.update({name: None})), content_type)
    assert replace(null, raw=without.raw) == without


@pytest.mark.parametrize("name", ["mediaType", "size", "artifactType", "annotations", "urls", "data", "platform"])
@pytest.mark.parametrize("place", ["config", "layers", "subject", "manifests"])
def test_null_member_of_a_descriptor_is_one_that_is_not_there(name: str, place: str) -> None:
    made = (factories.index if place == "manifests" else factories.image)(subject=factories.image())

    def with_it(*, null: bool) -> Manifest:
        document = made.document
        descriptor = document[place][0] if place in ("layers", "manifests") else document[place]
        descriptor.pop(name, None)
        descriptor.update({name: None} if null else {})
        return read(json.dumps(document).encode(), made.media_type)

    assert replace(with_it(null=True), raw=b"") == replace(with_it(null=False), raw=b"")


def test_empty_texts_say_nothing() -> None:
    def empty(document: dict[str, Any]) -> None:
        document.update(mediaType="", artifactType="")
        document["config"].update(mediaType="", data="", artifactType="", urls=[])

    manifest = read(changed(factories.image(), empty))
    assert (manifest.media_type, manifest.artifact_type) == (OCI_IMAGE, None)
    with pytest.raises(ManifestInvalid, match="media type is not supported"):
        read(changed(factories.image(), empty), "")


def test_null_annotation_is_an_empty_one() -> None:
    manifest = read(changed(factories.image(), lambda d: d.update(annotations={"a": None, "b": "c"})))
    assert manifest.annotations == {"a": "", "b": "c"}


@pytest.mark.parametrize("name", ["layers", "manifests", "config", "subject"])
def test_null_beside_a_value_is_a_member_that_stands_twice(name: str) -> None:
    """The last one counts in Go, the first one elsewhere."""
    made = (
        factories.index(subject=factories.image())
        if name == "manifests"
        else factories.image(subject=factories.image())
    )
    for raw in (made.raw[:-1] + b', "%s": null}' % name.encode(), b'{"%s": null, ' % name.encode() + made.raw[1:]):
        with pytest.raises(ManifestInvalid, match="twice"):
            read(raw, made.media_type)
    with pytest.raises(ManifestInvalid, match="clients may take it for"):
        read(made.raw[:-1] + b', "%s": null}' % name.upper().encode(), made.media_type)


@pytest.mark.parametrize("size", [None, -1, -(2**63)])
@pytest.mark.parametrize("place", ["config", "layers", "subject", "manifests"])
def test_size_that_is_not_said_is_noted(size: int | None, place: str) -> None:
    made = (factories.index if place == "manifests" else factories.image)(subject=factories.image())

    def change(document: dict[str, Any]) -> None:
        (document[place][0] if place in ("layers", "manifests") else document[place])["size"] = size

    (digest,) = parse(changed(made, change), made.media_type).unsized
    named = made.document[place]
    assert digest == (named[0] if isinstance(named, list) else named)["digest"]
    assert parse(made.raw, made.media_type).unsized == ()


# What is refused


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"schemaVersion": 2} trailing',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"schemaVersion": 2, "config": ' + b"9" * 100_000 + b"}",
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_what_is_no_json_object(raw: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        read(raw)


@pytest.mark.parametrize("content_type", ["", "application/json", "text/plain", "*/*", "a" * 10_000])
def test_unknown_media_type(content_type: str) -> None:
    raw = changed(factories.image(), lambda d: d.pop("mediaType"))
    with pytest.raises(ManifestInvalid, match="is not supported; use one of"):
        parse(raw, content_type)


@pytest.mark.parametrize("media_type", ["application/vnd.docker.distribution.manifest.v1+prettyjws", 7, [], {}])
def test_media_type_in_the_document_has_to_be_known(media_type: object) -> None:
    raw = changed(factories.image(), lambda d: d.update(mediaType=media_type))
    with pytest.raises(ManifestInvalid, match="is not supported"):
        parse(raw, "")


@pytest.mark.parametrize("content_type", [OCI_INDEX, DOCKER_IMAGE, "application/json"])
def test_content_type_and_media_type_disagree(content_type: str) -> None:
    with pytest.raises(ManifestInvalid, match="disagree"):
        parse(factories.image().raw, content_type)


@pytest.mark.parametrize("version", [1, 0, 3, -2, "2", None, 2.5, True])
def test_schema_version_is_2(version: object) -> None:
    with pytest.raises(ManifestInvalid):
        read(changed(factories.image(), lambda d: d.update(schemaVersion=version)))


def test_schema_1_is_told_what_to_do() -> None:
    with pytest.raises(ManifestInvalid, match="push the image with a current client"):
        read(changed(factories.image(), lambda d: d.update(schemaVersion=1)))


@pytest.mark.parametrize(
    "change",
    [
        {"manifests": []},
        {"manifests": [{"mediaType": OCI_IMAGE, "digest": DIGEST, "size": 1}]},
        {"manifests": ""},
        {"manifests": {}},
        {"manifests": False},
    ],
)
@pytest.mark.parametrize("content_type", [OCI_IMAGE, OCI_INDEX, ""])
def test_document_that_is_image_and_index(change: dict[str, Any], content_type: str) -> None:
    """CVE-2021-41190."""
    for kept in ("config", "layers"):
        document = factories.image().document
        raw = json.dumps({"schemaVersion": 2, kept: document[kept]} | change).encode()
        with pytest.raises(ManifestInvalid):
            parse(raw, content_type)
    raw = changed(factories.image(), lambda d: d.update(change))
    with pytest.raises(ManifestInvalid, match=r"both an image and an index|disagree"):
        parse(raw, content_type)


def test_image_that_is_called_an_index_and_the_other_way() -> None:
    image = changed(factories.image(), lambda d: d.pop("mediaType"))
    index = changed(factories.index(), lambda d: d.pop("mediaType"))
    for raw, content_type in ((image, OCI_INDEX), (image, DOCKER_LIST), (index, OCI_IMAGE), (index, DOCKER_IMAGE)):
        with pytest.raises(ManifestInvalid, match="an image with the media type of an index"):
            parse(raw, content_type)
    for kept in ("config", "layers"):
        part = json.dumps({"schemaVersion": 2, kept: factories.image().document[kept]}).encode()
        with pytest.raises(ManifestInvalid, match="an image with the media type of an index"):
            parse(part, OCI_INDEX)


@pytest.mark.parametrize("name", MEMBERS)
def test_member_that_stands_twice(name: str) -> None:
    raw = factories.image().raw
    twice = raw[:-1] + b', "%s": 1, "%s": 1}' % (name.encode(), name.encode())
    with pytest.raises(ManifestInvalid, match=r"twice|both"):
        read(twice)


@pytest.mark.parametrize(
    "name", ["Layers", "LAYERS", "MediaType", "mediatype", "Config", "SUBJECT", "\N{LATIN SMALL LETTER LONG S}ubject"]
)
def test_member_in_another_letter_case(name: str) -> None:
    """Some clients read names whatever their case, and so would see another document."""
    with pytest.raises(ManifestInvalid, match="clients may take it for"):
        read(changed(factories.image(), lambda d: d.update({name: []})))


def test_member_of_a_descriptor_that_stands_twice() -> None:
    raw = factories.image().raw.replace(b'"config": {', b'"config": {"digest": "%s", ' % DIGEST.encode())
    with pytest.raises(ManifestInvalid, match="twice"):
        read(raw)


@pytest.mark.parametrize("name", ["Digest", "DIGEST", "Size", "mediatype", "URLs", "Data"])
@pytest.mark.parametrize("place", ["config", "layers", "subject"])
def test_member_of_a_descriptor_in_another_letter_case(name: str, place: str) -> None:
    def change(document: dict[str, Any]) -> None:
        descriptor = document[place][0] if place == "layers" else document[place]
        descriptor[name] = DIGEST

    with pytest.raises(ManifestInvalid):
        read(changed(factories.image(subject=factories.image()), change))


@pytest.mark.parametrize("missing", ["schemaVersion", "config"])
def test_image_without_a_required_member(missing: str) -> None:
    with pytest.raises(ManifestInvalid, match="breaks the image specification"):
        read(changed(factories.image(), lambda d: d.pop(missing)))


@pytest.mark.parametrize(
    "change",
    [
        {"config": None},
        {"config": []},
        {"config": DIGEST},
        {"layers": {}},
        {"layers": [None]},
        {"layers": [DIGEST]},
        {"subject": {}},
        {"subject": DIGEST},
        {"annotations": {"a": 1}},
        {"annotations": ["a"]},
        {"annotations": {"a": {"b": "c"}}},
        {"artifactType": 1},
    ],
)
def test_member_of_another_type(change: dict[str, Any]) -> None:
    with pytest.raises(ManifestInvalid, match="breaks the image specification"):
        read(changed(factories.image(), lambda d: d.update(change)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"digest": ""},
        {"digest": "sha256:abc"},
        {"digest": "md5:d41d8cd98f00b204e9800998ecf8427e"},
        {"digest": "../../../etc/passwd"},
        {"digest": None},
        {"size": 2**63},
        {"size": 2**64},
        {"size": 10**30},
        {"size": "12"},
        {"size": 1.5},
        {"mediaType": 1},
        {"urls": "https://a.example"},
        {"annotations": {"a": 1}},
        {"data": "!"},
        {"data": "YQ"},
        {"data": "YQ=="},
    ],
)
@pytest.mark.parametrize("place", ["config", "layers", "subject"])
def test_descriptor_that_breaks_a_rule(wrong: dict[str, Any], place: str) -> None:
    def change(document: dict[str, Any]) -> None:
        descriptor = document[place][0] if place == "layers" else document[place]
        descriptor.update(wrong)

    with pytest.raises(ManifestInvalid):
        read(changed(factories.image(subject=factories.image()), change))


@pytest.mark.parametrize("length", [255, 256])
def test_artifact_type_is_no_longer_than_a_media_type(length: int) -> None:
    kind = "application/".ljust(length, "x")
    images = [
        (factories.image(artifact_type=kind), OCI_IMAGE),
        (factories.index(artifact_type=kind), OCI_INDEX),
        (factories.Manifest(changed(factories.image(), lambda d: d["config"].update(mediaType=kind)), ""), OCI_IMAGE),
    ]
    for made, content_type in images:
        if length == 255:
            assert parse(made.raw, content_type).artifact_type == kind
        else:
            with pytest.raises(ManifestInvalid, match="longer than a media type"):
                parse(made.raw, content_type)


def test_message_says_which_descriptor_is_wrong() -> None:
    with pytest.raises(ManifestInvalid, match=r"^layers\[1\]\.digest: not a digest"):
        read(changed(factories.image(2), lambda d: d["layers"][1].update(digest="x")))
    with pytest.raises(ManifestInvalid, match=r"^manifests\[0\]\.size is out of range"):
        parse(changed(factories.index(), lambda d: d["manifests"][0].update(size=2**63)), OCI_INDEX)


def test_message_stays_short() -> None:
    for raw in (b'{"' + b"x" * 100_000, b'{"mediaType": "' + b"x" * 100_000 + b'"}'):
        with pytest.raises(ManifestInvalid) as caught:
            parse(raw, "")
        assert len(caught.value.message) + len(str(caught.value.detail)) < 1000


# Whatever is sent


@given(st.binary(), st.sampled_from([*sorted(media.MANIFESTS), ""]))
def test_no_bytes_break_the_parser(raw: bytes, content_type: str) -> None:
    with pytest.raises(ManifestInvalid):
        parse(raw, content_type)


@given(st.dictionaries(st.sampled_from(MEMBERS), JSON), st.sampled_from([*sorted(media.MANIFESTS), ""]))
def test_no_members_break_the_parser(members: dict[str, Any], content_type: str) -> None:
    raw = json.dumps({"schemaVersion": 2} | members).encode()
    try:
        manifest = parse(raw, content_type)
    except ManifestInvalid:
        return
    assert manifest.raw == raw
    assert manifest.media_type in media.MANIFESTS


@given(
    st.lists(st.integers(0, 300), max_size=5),
    st.none() | st.dictionaries(st.text(), st.text(), max_size=3),
    st.sampled_from([None, "application/x", "a/b+c"]),
)
def test_image_is_read_as_it_was_written(
    sizes: list[int], annotations: dict[str, str] | None, artifact_type: str | None
) -> None:
    layers = [factories.blob(size) for size in sizes]
    raw = factories.encode(
        {
            "schemaVersion": 2,
            "config": factories.blob(3, OCI_CONFIG).descriptor,
            "layers": [layer.descriptor for layer in layers],
            "annotations": annotations,
            "artifactType": artifact_type,
        }
    )
    manifest = read(raw)
    assert [(layer.digest, layer.size) for layer in manifest.blobs[1:]] == [(b.digest, b.size) for b in layers]
    assert (manifest.annotations, manifest.raw) == (annotations, raw)
    assert manifest.artifact_type == (artifact_type or OCI_CONFIG)
    assert {layer.media_type for layer in manifest.blobs[1:]} <= {OCI_LAYER}


# Media types


@pytest.mark.parametrize(
    ("content_type", "essence"),
    [("", ""), ("A/B", "a/b"), ("a/b;c=d", "a/b"), (" a/b ; c=d", "a/b"), (";", "")],
)
def test_essence_of_a_content_type(content_type: str, essence: str) -> None:
    assert media.essence(content_type) == essence
