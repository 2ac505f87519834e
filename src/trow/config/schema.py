"""The structs below are the whole schema: names, types, defaults and descriptions."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from trow.access.permissions import EVERYTHING, Permission, expand
from trow.access.rules import PermissionRule, Subjects
from trow.config.values import Bind, Duration, ExactUrl, Network, PostgresUrl, ServiceName, Size, WebOrigin, WebUrl
from trow.lib.globs import RepositoryGlob
from trow.lib.urls import is_loopback
from trow.policy.images import registry_of
from trow.policy.paths import Path as FieldPath
from trow.policy.pods import Kind


def _setting(text: str, *, flag: str = "", minimum: float | None = None, maximum: float | None = None) -> Meta:
    return Meta(description=text, extra={"flag": flag, "minimum": minimum, "maximum": maximum})


class Tls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Certificate chain and private key, both PEM."""

    form: ClassVar = "both files, certificate and key; in a variable or flag CERT,KEY"
    certificate: Path
    key: Path


class ClientTls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where client certificates are asked for, and the authorities (PEM) that may have issued them."""

    form: ClassVar = "bind (HOST:PORT) and client_ca (a PEM file); crl (PEM) may follow"
    bind: Bind
    client_ca: Path
    crl: Path | None = None


class Listen(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and how to listen."""

    bind: Annotated[
        tuple[Bind, ...],
        _setting(
            "Addresses to listen on. A host name stands for all addresses it has on this machine, as `localhost` may"
            " be both loopbacks; `[::]` is every address, IPv4 and IPv6; port 0 lets the kernel choose; an address"
            " without port gets 8000.",
            flag="--bind",
        ),
    ] = (Bind("127.0.0.1:8000"),)
    tls: Annotated[
        Tls | None,
        _setting(
            "PEM files `certificate` (the whole chain) and `key`. Null serves plain HTTP. Renewed files are taken up"
            " without a restart.",
            flag="--tls",
        ),
    ] = None
    client_tls: Annotated[
        ClientTls | None,
        _setting(
            "A further address, `bind`, that demands a client certificate of an authority in `client_ca`. It uses the"
            " certificate of listen.tls."
        ),
    ] = None
    probes: Annotated[
        Bind | None,
        _setting(
            "A further address for `/healthz`, `/readyz` and `/metrics` alone, over plain HTTP. It answers when the"
            " others are full. Let nobody reach it but kubelets and Prometheus.",
            flag="--probes",
        ),
    ] = None
    public_url: Annotated[
        WebUrl | None,
        _setting(
            "The URL that clients use, for the address of the token service. Null takes it from each request.",
            flag="--public-url",
        ),
    ] = None
    trusted_proxies: Annotated[
        tuple[Network, ...],
        _setting(
            "Proxies whose `X-Forwarded-For`, `-Proto` and `-Host` are believed. From anybody else these are ignored.",
            flag="--trusted-proxies",
        ),
    ] = ()
    cors: Annotated[
        tuple[WebOrigin, ...],
        _setting(
            "Origins whose pages may call the registry from a browser. `*` is every origin, then without credentials.",
            flag="--cors",
        ),
    ] = ()
    shutdown_grace: Annotated[
        Duration, _setting("How long a stop waits for requests in flight before it cuts them off.", minimum=0)
    ] = Duration(30)


class Postgres(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The PostgreSQL server of `metadata: postgres`, version 15 or newer."""

    url: Annotated[
        PostgresUrl | None,
        _setting(
            "Where the database is: `postgresql://USER@HOST:PORT/DATABASE`, as libpq takes it. Several hosts, separated"
            " by commas, are tried for the one that takes writes. It holds no password."
        ),
    ] = None
    password_file: Annotated[
        Path | None,
        _setting("File that holds the password. It is read for each new connection, so a renewed one is taken up."),
    ] = None
    ca_file: Annotated[
        Path | None,
        _setting(
            "Authorities (PEM) that may have issued the server's certificate. With it each connection is encrypted, and"
            " the certificate has to be for the host of the URL. Null does what `sslmode` in the URL says."
        ),
    ] = None
    max_connections: Annotated[
        int, _setting("How many connections each replica has at most.", minimum=6, maximum=1000)
    ] = 16
    timeout: Annotated[
        Duration,
        _setting("How long a statement may take, and how long a request waits for a connection.", minimum=1),
    ] = Duration(10)
    statement_cache_size: Annotated[
        int,
        _setting(
            "How many prepared statements each connection keeps. Write 0 where the URL leads to a PgBouncer in"
            " transaction mode.",
            minimum=0,
            maximum=10_000,
        ),
    ] = 200


class S3(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bucket of `storage: s3`. Credentials come from where the AWS tools look for them."""

    bucket: Annotated[str | None, _setting("Name of the bucket.")] = None
    prefix: Annotated[
        str, _setting("What the key of every object begins with, such as `trow/`. It ends with a slash, or is empty.")
    ] = ""
    region: Annotated[
        str | None, _setting("Region of the bucket. Null takes it from the environment or the profile.")
    ] = None
    endpoint: Annotated[
        WebUrl | None, _setting("URL of a server that speaks the S3 protocol. Null is that of AWS in the region.")
    ] = None
    path_style: Annotated[
        bool,
        _setting("Write the bucket's name into the path of URLs, and not before the host: most servers of one's own."),
    ] = False
    ca_file: Annotated[
        Path | None, _setting("Authorities (PEM) that may have issued the endpoint's certificate. Null: the system's.")
    ] = None
    encryption: Annotated[
        Literal["bucket", "AES256", "aws:kms"],
        _setting("How the server encrypts objects: as the bucket says, with keys of S3, or with a key of KMS."),
    ] = "bucket"
    kms_key: Annotated[str | None, _setting("The key of KMS; null is the account's own for S3.")] = None
    redirect: Annotated[
        bool,
        _setting(
            "Send clients to the bucket for blobs, by an address that is good for s3.redirect_lifetime. Every node has"
            " to reach the bucket. Without it blobs pass through Trow."
        ),
    ] = False
    redirect_lifetime: Annotated[
        Duration,
        _setting("How long a client may begin to download from such an address.", minimum=60, maximum=3600),
    ] = Duration(900)
    public_endpoint: Annotated[
        WebUrl | None, _setting("URL by which clients reach the bucket, where that is not s3.endpoint.")
    ] = None
    timeout: Annotated[
        Duration, _setting("How long the bucket may be silent in the middle of a call.", minimum=1, maximum=600)
    ] = Duration(30)
    max_connections: Annotated[
        int,
        _setting(
            "Connections to the bucket at a time, beside one for each blob that passes through Trow.",
            minimum=16,
            maximum=10_000,
        ),
    ] = 64


class Registry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the registry accepts and keeps."""

    max_manifest_size: Annotated[
        Size,
        _setting("Largest manifest accepted; a larger one is answered 413.", flag="--max-manifest-size", minimum=1),
    ] = Size(4 * 2**20)
    max_blob_size: Annotated[
        Size, _setting("Largest blob accepted; a larger one is answered 413.", flag="--max-blob-size", minimum=1)
    ] = Size(2**40)
    sparse_indexes: Annotated[
        bool, _setting("Accept an index that lists manifests which the repository does not hold.")
    ] = True
    sparse_images: Annotated[
        bool,
        _setting(
            "Accept an image manifest that lists blobs which the repository does not hold, beside the non-distributable"
            " layers that it need never hold."
        ),
    ] = False
    strict_sizes: Annotated[
        bool,
        _setting(
            "Refuse a manifest that gives its content another size than it has, or none. Without it such a push is"
            " answered with a `Warning` and counted in `trow_wrong_size_manifests_total`: content is known by digest."
        ),
    ] = False
    upload_expiry: Annotated[Duration, _setting("An upload session ends this long after its last byte.", minimum=1)] = (
        Duration(3600)
    )
    empty_upload_expiry: Annotated[
        Duration,
        _setting(
            "An upload session to which no byte came ends this long after it was opened. Asking for its status does not"
            " let it live longer.",
            minimum=1,
        ),
    ] = Duration(300)
    tag_history: Annotated[int, _setting("Entries of history kept for each tag.", minimum=0)] = 100
    pull_check: Annotated[
        str | None,
        _setting(
            "Repository in which Trow itself publishes a small image at its start, with the tag `1`, by which the nodes"
            " of a cluster show that they can pull. Null: none."
        ),
    ] = None
    notice: Annotated[
        str, _setting("A text sent as `Warning` header with every answer under `/v2/`; clients show it. Empty: none.")
    ] = ""


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client may ask for."""

    requests_per_second: Annotated[
        int,
        _setting(
            "Requests a second allowed to one client address; above it the answer is 429 with `Retry-After`."
            " 0: no limit.",
            minimum=0,
        ),
    ] = 0
    burst: Annotated[
        int, _setting("Requests that one client address may send at once before its rate counts.", minimum=1)
    ] = 100
    max_connections: Annotated[
        int | None,
        _setting(
            "Connections that clients may have open at a time, busy or idle. Above this number an idle connection"
            " ends, of the source that has most of them. Null is 10000, or less where open files (`ulimit -n`)"
            " or the container's memory (half of it, 32 KiB each) do not suffice.",
            minimum=16,
        ),
    ] = None
    max_connections_per_source: Annotated[
        int | None,
        _setting(
            "Connections of one source: an IPv4 address or an IPv6 /64. Trusted proxies may have any number. Null is"
            " half of limits.max_connections.",
            minimum=1,
        ),
    ] = None
    send_memory: Annotated[
        Size | None,
        _setting(
            "Memory for answers of more than 64 KiB that clients have not taken yet, 768 KiB each. Where it is full,"
            " those that stall end, further ones wait for 50 s, and then the answer is 429 or 503 with `Retry-After`."
            " One source has three quarters at most. Null is 48 MiB, or a quarter of the container's memory where"
            " that is more.",
            minimum=2**20,
        ),
    ] = None
    first_byte_timeout: Annotated[
        Duration,
        _setting("A connection ends when its first byte, or its TLS handshake, takes longer than this.", minimum=1),
    ] = Duration(10)
    header_timeout: Annotated[
        Duration, _setting("How long the headers of a request may take to arrive.", minimum=1)
    ] = Duration(30)
    idle_timeout: Annotated[
        Duration,
        _setting(
            "A connection ends after this long without a request. It has to be longer than a proxy in front keeps its"
            " connections, or the proxy sends requests over one that is ending.",
            minimum=1,
        ),
    ] = Duration(180)
    send_timeout: Annotated[
        Duration,
        _setting("A connection ends when its client takes nothing of an answer for this long.", minimum=1),
    ] = Duration(30)
    send_rate: Annotated[
        Size,
        _setting(
            "Bytes a second of an answer that a client has to take on average. Each time it has taken this many, it may"
            " wait one more second, limits.send_timeout at most. 0: any byte is enough.",
            minimum=0,
        ),
    ] = Size(512)
    max_uploads: Annotated[
        int,
        _setting(
            "Open upload sessions. When all are in use, a new one replaces the oldest empty one of the user who has the"
            " most. If this is the client itself, the answer is 429.",
            minimum=1,
        ),
    ] = 10000
    max_uploads_per_user: Annotated[
        int,
        _setting(
            "Open upload sessions of one user, or of one address where nobody logs in. A new one above this number"
            " takes the place of the user's oldest empty one; when none is empty the answer is 429.",
            minimum=1,
        ),
    ] = 1000
    max_uploads_per_repository: Annotated[
        int,
        _setting(
            "Open upload sessions in one repository. A new one above this number takes the place of an empty one, the"
            " user's own first, then one of the user who has the most there. Otherwise the answer is 429.",
            minimum=1,
        ),
    ] = 2000
    reserved_space: Annotated[
        Size,
        _setting(
            "Space on the volume of the data directory that is kept for deletes, which could not free anything when it"
            " is full; pushes are refused with 507 while it is in use. On a small volume it is a sixteenth of that."
            " 0: none.",
            minimum=0,
        ),
    ] = Size(16 * 2**20)
    page_size: Annotated[int, _setting("Entries in one page of a list when the request gives no `n`.", minimum=1)] = (
        1000
    )
    max_page_size: Annotated[
        int, _setting("Largest page of a list; a larger `n` is answered with this many.", minimum=1)
    ] = 10000
    max_tags_per_push: Annotated[
        int, _setting("`tag` parameters that one manifest push may carry; above it the answer is 414.", minimum=1)
    ] = 64
    body_timeout: Annotated[
        Duration, _setting("Silence allowed in the middle of a request's body; after it the answer is 408.", minimum=1)
    ] = Duration(60)
    body_rate: Annotated[
        Size,
        _setting(
            "Bytes a second that a request's body has to bring on average. Each time it has brought this many, it may"
            " pause one more second, limits.body_timeout at most; after that the answer is 408. Time that the registry"
            " itself takes does not count. 0: any byte is enough.",
            minimum=0,
        ),
    ] = Size(512)


Anonymous: TypeAlias = Literal["none", "pull"]


class OidcIssuer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An issuer of OpenID Connect tokens."""

    form: ClassVar = "a mapping with name, issuer and audiences, such as {name: github, issuer: ..., audiences: [...]}"
    name: str
    issuer: ExactUrl
    audiences: tuple[str, ...]
    algorithms: tuple[
        Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"], ...
    ] = ("RS256", "ES256")
    username_claim: str = "sub"
    username_prefix: str | None = None
    groups_claim: str | None = None
    groups_prefix: str | None = None
    required_claims: dict[str, str] = {}
    jwks_uri: ExactUrl | None = None
    ca_file: Path | None = None


class Auth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is who. Without any of these everybody may do everything, which only loopback addresses allow."""

    user: Annotated[
        str | None, _setting("A user who may do everything, with the password in auth.password_file.", flag="--user")
    ] = None
    password_file: Annotated[
        Path | None,
        _setting("File with that user's password; one trailing newline is not part of it.", flag="--password-file"),
    ] = None
    users_file: Annotated[
        Path | None,
        _setting(
            "File of users, in the form of htpasswd: `NAME:HASH` lines with bcrypt or argon2 hashes, optionally with"
            " `:GROUP,GROUP`. Changes are taken up without a restart.",
            flag="--users-file",
        ),
    ] = None
    anonymous: Annotated[
        Anonymous | None,
        _setting(
            "What a request without credentials may do: `none` or `pull`. Null is `none` where there is a way to log"
            " in; setting either demands a login for everything else.",
            flag="--anonymous",
        ),
    ] = None
    allow_anonymous_push: Annotated[
        bool,
        _setting(
            "Let everybody pull, push and delete without credentials, on any address.", flag="--allow-anonymous-push"
        ),
    ] = False
    challenge: Annotated[
        Literal["bearer", "basic"],
        _setting(
            "What a request without credentials is asked for: `bearer` sends clients to the token service, `basic`"
            " asks for a password with each request. Both are always accepted.",
            flag="--challenge",
        ),
    ] = "bearer"
    oidc: Annotated[
        tuple[OidcIssuer, ...],
        _setting(
            "Issuers whose tokens are accepted: `name`, `issuer`, `audiences`, and optionally `algorithms`,"
            " `username_claim`, `username_prefix` (default `NAME:`), `groups_claim`, `groups_prefix` (the same),"
            " `required_claims`, `jwks_uri`, `ca_file`. Algorithms are RS256 and ES256 unless named; the user's name is"
            " the claim `sub`; groups are read only where their claim is named."
        ),
    ] = ()


class Tokens(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tokens that Trow itself issues, at `/token`."""

    service: Annotated[str, _setting("The name of this registry in its tokens; replicas of one registry share it.")] = (
        "trow"
    )
    lifetime: Annotated[
        Duration,
        _setting(
            "How long a token is valid. A right that was taken away can still be used until its tokens end.",
            minimum=10,
            maximum=3600,
        ),
    ] = Duration(300)
    keys: Annotated[
        Path | None,
        _setting(
            "Directory of the signing keys, shared by the replicas of one registry; the newest key signs. Null is"
            " `keys` in the data directory, where a first key is made."
        ),
    ] = None


class AccessRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule: subjects, repositories, actions."""

    form: ClassVar = (
        "a mapping with users, groups, claims or anonymous, and with repositories and actions, such as"
        " {groups: [dev], repositories: [team-a/**], actions: [pull, push]}"
    )
    name: str = ""
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    issuer: str = ""
    claims: dict[str, str] = {}
    anonymous: bool = False
    repositories: tuple[RepositoryGlob, ...] = (RepositoryGlob("**"),)
    actions: tuple[Literal["pull", "push", "attach", "tag-overwrite", "delete", "list", "audit", "admin"], ...]

    def rule(self, number: int) -> PermissionRule:
        """The rule that it stands for; ``number`` is its place in access.rules."""
        name = f"access.rules[{number}]" + (f" ({self.name})" if self.name else "")
        subjects = Subjects(
            users=frozenset(self.users),
            groups=frozenset(self.groups),
            issuer=self.issuer,
            claims=tuple(sorted(self.claims.items())),
            anonymous=self.anonymous,
        )
        return PermissionRule(
            name, subjects, self.repositories, expand([Permission(action) for action in self.actions])
        )


class Access(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may do what. What no rule allows is denied."""

    rules: Annotated[
        tuple[AccessRule, ...],
        _setting(
            "Rules, each with subjects (`users`, `groups`, or an OIDC `issuer` with `claims`, or `anonymous: true`),"
            " `repositories` (globs by components: `*`, `**`) and `actions` (`pull`, `push`, `attach`,"
            " `tag-overwrite`, `delete`, `list`, `audit`, `admin`)."
        ),
    ] = ()


class Kubernetes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cluster whose ServiceAccounts are users and whose RBAC decides."""

    audiences: Annotated[
        tuple[str, ...],
        _setting(
            "Audiences that a ServiceAccount's token must be meant for, such as the name of the registry. Empty: no"
            " such tokens are accepted.",
            flag="--kubernetes-audiences",
        ),
    ] = ()
    authorization: Annotated[
        bool,
        _setting(
            "Ask the API server about requests that access.rules do not allow (SubjectAccessReview on"
            " `repositories.registry.trow.io`).",
            flag="--kubernetes-authorization",
        ),
    ] = False
    anonymous: Annotated[
        bool,
        _setting("Let bindings to the group `system:unauthenticated` decide what may be pulled without credentials."),
    ] = False
    api_server: Annotated[
        WebUrl | None, _setting("URL of the API server. Null is that of the cluster that Trow runs in.")
    ] = None
    ca_file: Annotated[
        Path | None, _setting("Authority of the API server's certificate, PEM. Null is that of the Pod.")
    ] = None
    token_file: Annotated[
        Path | None, _setting("Trow's own token for the API server, read again when it changes. Null is the Pod's.")
    ] = None
    kubeconfig: Annotated[
        Path | None,
        _setting(
            "A kubeconfig file instead of these three, for a Trow outside of the cluster. Its user needs a token or a"
            " client certificate: a server runs no credential plugins (`exec`)."
        ),
    ] = None
    timeout: Annotated[Duration, _setting("How long the API server may take for an answer.", minimum=0.1)] = Duration(5)
    node_agents: Annotated[
        str | None,
        _setting("Namespace of the node agents, whose Pods say which node can pull (`GET /api/v1/nodes`). Null: none."),
    ] = None
    namespaces: Annotated[
        dict[str, str],
        _setting(
            "Namespaces of repositories by prefix, where the first component is not the namespace, such as"
            " `{legacy/web: team-a}`. The longest prefix counts."
        ),
    ] = {}
    default_namespace: Annotated[
        str | None, _setting("Namespace of repositories that have one component only. Null: nobody may use these.")
    ] = None
    proxied_prefixes: Annotated[
        tuple[str, ...], _setting("First components under which other registries are proxied; no namespaces.")
    ] = ("f",)
    shared_prefixes: Annotated[
        tuple[str, ...], _setting("First components that belong to the whole cluster; no namespaces.")
    ] = ("shared",)


class Audit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record of who did what."""

    enabled: Annotated[bool, _setting("Keep the record.", flag="--no-audit")] = True
    fail_closed: Annotated[
        bool, _setting("Do nothing that cannot be recorded: requests wait for the record and fail without it.")
    ] = False
    retention: Annotated[
        Duration, _setting("Records older than this are removed; at most 100 years.", minimum=60, maximum=36500 * 86400)
    ] = Duration(90 * 86400)
    max_size: Annotated[
        Size,
        _setting(
            "When the records take more than this, some are removed: in each part above its share, the oldest ones of"
            " the user who has the most.",
            minimum=2**20,
        ),
    ] = Size(4 * 2**30)
    pull_idle: Annotated[
        Duration, _setting("A pull ends, and is recorded, when nothing was asked for this long.", minimum=0.1)
    ] = Duration(30)
    stdout: Annotated[bool, _setting("Write each record to standard output too, one JSON object a line.")] = False
    file: Annotated[Path | None, _setting("Write each record to this file too, one JSON object a line.")] = None
    file_size: Annotated[Size, _setting("A new file is begun at this size.", minimum=4096)] = Size(100 * 2**20)
    file_keep: Annotated[int, _setting("Files kept beside the current one.", minimum=0)] = 10
    webhook: Annotated[ExactUrl | None, _setting("Send each record to this URL too.")] = None
    webhook_format: Annotated[
        Literal["cloudevents", "kubernetes"],
        _setting("Bodies sent: CloudEvents 1.0 in batches, or an `EventList` of `audit.k8s.io/v1`."),
    ] = "cloudevents"
    webhook_token_file: Annotated[
        Path | None, _setting("File with a bearer token for that URL, read again when it changes.")
    ] = None
    webhook_ca_file: Annotated[Path | None, _setting("Authority of that URL's certificate, PEM.")] = None


class ImageValidation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which images may run: one policy, for all namespaces. Prefixes end where a component of a name ends."""

    default: Annotated[
        Literal["Allow", "Deny"] | None,
        _setting("What happens to images that no entry covers. Null: there is no such policy."),
    ] = None
    allow: Annotated[
        tuple[str, ...],
        _setting(
            "Images that may run, such as `quay.io`, `docker.io/acme/`, `docker.io/nginx` or `quay.io/org/app:1.2`."
        ),
    ] = ()
    deny: Annotated[tuple[str, ...], _setting("Images that may not run, even if `allow` covers them.")] = ()
    mode: Annotated[
        Literal["enforce", "warn", "audit"],
        _setting("What a denial does: refuse, warn the user, or only record."),
    ] = "enforce"


class ExtraKind(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kind of object that makes Pods, and where in it images or specifications of Pods are."""

    form: ClassVar = (
        "a mapping with group, kind and paths, such as {group: argoproj.io, kind: Rollout, paths: [spec.template.spec]}"
    )
    group: str
    kind: str
    paths: tuple[str, ...]
    resource: str = ""

    @property
    def object_kind(self) -> Kind:
        """The kind, as objects name it."""
        return Kind(self.group, self.kind)


class Admission(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the policies of images are enforced in a cluster."""

    policies: Annotated[
        bool,
        _setting(
            "Follow the policies that the cluster has: `ClusterImagePolicy`, `ImagePolicy`, `PolicyException`.",
            flag="--admission-policies",
        ),
    ] = False
    registries: Annotated[
        tuple[str, ...],
        _setting(
            "Hosts of this registry in the names of images, such as `registry.example.com`. These images are"
            " looked up here."
        ),
    ] = ()
    deadline: Annotated[
        Duration,
        _setting(
            "How long a review may take. It has to be below the webhook's `timeoutSeconds`: 5 where Trow writes that"
            " (admission.webhooks), and never more than 30.",
            minimum=0.01,
            maximum=29,
        ),
    ] = Duration(3)
    extra_kinds: Annotated[
        tuple[ExtraKind, ...],
        _setting(
            "Kinds that name images, beside those that are well known: their `group`, `kind` and `paths` to an image"
            " (`spec.image`), to images (`spec.steps[*].image`) or to a specification of Pods (`spec.template.spec`)."
            " The API server asks about `resource`, the plural that `kubectl api-resources` shows; without it about all"
            " kinds of the group."
        ),
    ] = ()
    pull_through: Annotated[
        dict[str, str],
        _setting(
            "Registries and the prefix of names by which their images are pulled through this one, such as"
            " `{docker.io: registry.example.com/f/docker.io}`, for policies that rewrite."
        ),
    ] = {}
    compiled: Annotated[
        bool,
        _setting(
            "Where admission.policies is on: have the API server enforce what it can of the policies by itself"
            " (`ValidatingAdmissionPolicy`), also while no Trow runs."
        ),
    ] = True
    excluded_namespaces: Annotated[
        tuple[str, ...],
        _setting(
            "Namespaces that compiled policies and webhooks leave alone, whatever policies say: those without which"
            " nothing starts."
        ),
    ] = ("kube-system", "trow")
    scan_interval: Annotated[
        Duration,
        _setting(
            "Where admission.policies is on: how often everything that runs is evaluated, for PolicyReports. 0: never.",
            minimum=0,
        ),
    ] = Duration(600)
    pull_groups: Annotated[
        tuple[str, ...],
        _setting("Groups, such as `system:nodes`, whose pulls from this registry the policies decide too."),
    ] = ()
    pull_users: Annotated[
        tuple[str, ...], _setting("Users whose pulls from this registry the policies decide too.")
    ] = ()
    bind: Annotated[
        Bind | None,
        _setting(
            "A further address, always HTTPS, that serves the webhooks and nothing else, beside `/healthz` and"
            " `/readyz`. Let nobody reach it but the API server.",
            flag="--admission-bind",
        ),
    ] = None
    on_registry_addresses: Annotated[
        bool,
        _setting(
            "Serve the webhooks on the registry's own addresses too. WARNING: every client of the registry can then ask"
            " what the policies say of an image, and put reviews on record that never happened. Use it for trials,"
            " or with a proxy in front that lets only the API server reach `/admission/`.",
        ),
    ] = False
    tls: Annotated[
        Tls | None,
        _setting(
            "PEM files `certificate` and `key` for that address, as cert-manager writes them. Renewed files are taken"
            " up without a restart. Null lets Trow keep a certificate of its own in the cluster."
        ),
    ] = None
    service: Annotated[
        ServiceName | None,
        _setting(
            "`NAMESPACE/NAME` or `NAMESPACE/NAME:PORT` of the Service by which the API server calls the webhooks. Its"
            " port is 8443 if none is written; its names are in that certificate."
        ),
    ] = None
    url: Annotated[
        WebUrl | None,
        _setting(
            "Where the API server calls the webhooks instead, for a Trow outside of the cluster: `https://HOST:PORT`."
            " The host is in that certificate too."
        ),
    ] = None
    certificate_names: Annotated[
        tuple[str, ...], _setting("Further names and addresses that the certificate is valid for.")
    ] = ()
    ca_file: Annotated[
        Path | None,
        _setting(
            "Authority of the certificate in admission.tls, PEM, as cert-manager writes it beside that. The API server"
            " is told to trust it. Null: it does already."
        ),
    ] = None
    secret: Annotated[str, _setting("The Secret, in the Service's namespace, that the replicas keep it in.")] = (
        "trow-webhook"  # noqa: S105 - a name
    )
    webhooks: Annotated[
        str | None,
        _setting(
            "Name of the ValidatingWebhookConfiguration and the MutatingWebhookConfiguration that Trow writes, when the"
            " API server reaches it by admission.service or admission.url. Null: somebody else writes them."
        ),
    ] = "trow"
    owner: Annotated[
        str,
        _setting(
            "Name of the ClusterRole that owns what Trow writes: the webhook configurations, compiled policies, the"
            " Secret, reports. Kubernetes deletes them with it, so that removing an installation with its roles leaves"
            " no webhook behind. Trow needs `get` on it. Empty: nobody owns them."
        ),
    ] = ""
    certificate_lifetime: Annotated[
        Duration,
        _setting("How long that certificate is good; it is renewed with a third of that left.", minimum=10),
    ] = Duration(30 * 86400)
    authority_lifetime: Annotated[
        Duration,
        _setting("How long its authority is good; another one takes over with a third of that left.", minimum=20),
    ] = Duration(365 * 86400)

    @property
    def registry_names(self) -> tuple[str, ...]:
        """The hosts of admission.registries, as they are compared with those of images."""
        return tuple(map(registry_of, self.registries))

    @property
    def kind_paths(self) -> dict[Kind, list[FieldPath]]:
        """Where the kinds of admission.extra_kinds name images."""
        return {each.object_kind: [*map(FieldPath.parse, each.paths)] for each in self.extra_kinds}

    @property
    def callable_names(self) -> tuple[str, ...]:
        """The names and addresses by which the API server may call the webhooks."""
        hosts: list[str] = []
        if self.service is not None:
            name, namespace = self.service.name, self.service.namespace
            hosts = [f"{name}.{namespace}.svc", f"{name}.{namespace}", f"{name}.{namespace}.svc.cluster.local"]
        return (*hosts, *([urlsplit(self.url).hostname or ""] if self.url else []), *self.certificate_names)


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written to standard error, one line for each event."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _setting("Least severe level that is written.", flag="--log-level"),
    ] = "info"
    format: Annotated[
        Literal["auto", "text", "json"],
        _setting(
            "`text` is for people, `json` for programs: one object a line. `auto` is text on a terminal and JSON"
            " elsewhere.",
            flag="--log-format",
        ),
    ] = "auto"
    access: Annotated[bool, _setting("Write one line for every request.", flag="--no-access-log")] = True


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration."""

    listen: Listen = Listen()
    data_dir: Annotated[
        Path, _setting("Directory of everything stored; made when it does not exist.", flag="--data-dir")
    ] = Path("data")
    metadata: Annotated[
        Literal["sqlite", "postgres"],
        _setting(
            "Where names, links and manifests are kept. `sqlite` is a file in the data directory, for one process."
            " `postgres` is a server, which several replicas can share; it needs postgres.url, and asyncpg (pip install"
            " 'trow[postgres]')."
        ),
    ] = "sqlite"
    replicas: Annotated[
        int,
        _setting(
            "How many replicas serve this registry at the same time, at most. More than one need `metadata: postgres`,"
            " `storage: s3` or a data directory that all of them share, and `audit.enabled: false`.",
            minimum=1,
        ),
    ] = 1
    postgres: Postgres = Postgres()
    storage: Annotated[
        Literal["filesystem", "s3"],
        _setting(
            "Where blobs larger than 64 KiB are kept: in files below data_dir, or in a bucket. `s3` needs s3.bucket,"
            " and aiobotocore (pip install 'trow[s3]'); bytes of uploads under way are below data_dir meanwhile."
        ),
    ] = "filesystem"
    s3: S3 = S3()
    registry: Registry = Registry()
    limits: Limits = Limits()
    auth: Auth = Auth()
    tokens: Tokens = Tokens()
    access: Access = Access()
    kubernetes: Kubernetes = Kubernetes()
    audit: Audit = Audit()
    image_validation: ImageValidation = ImageValidation()
    admission: Admission = Admission()
    log: Log = Log()

    @property
    def goes_on_elsewhere(self) -> bool:
        """Whether an upload may go on at another replica: its state is in a database and a bucket that all have."""
        return self.metadata == "postgres" and self.storage == "s3"

    @property
    def fingerprint(self) -> str:
        """The same for the same settings."""
        return f"sha256:{hashlib.sha256(repr(self).encode()).hexdigest()}"

    @property
    def authenticated(self) -> bool:
        """Whether anybody has to say who they are for anything."""
        auth = self.auth
        return bool(
            auth.user
            or auth.users_file
            or auth.anonymous
            or auth.oidc
            or self.kubernetes.audiences
            or self.kubernetes.authorization
            or self.listen.client_tls
            or self.access.rules
        )

    @property
    def open_to_all(self) -> bool:
        """Whether requests without credentials may do everything."""
        return self.auth.allow_anonymous_push or not self.authenticated

    @property
    def anonymous_access(self) -> Literal["none", "pull", "all"]:
        """What a request without credentials may do."""
        return "all" if self.open_to_all else self.auth.anonymous or "none"

    @property
    def allows_anonymous(self) -> bool:
        """Whether anything can be allowed to a request without credentials."""
        by_rule = any(rule.anonymous for rule in self.access.rules)
        return by_rule or self.kubernetes.anonymous or self.anonymous_access != "none"

    @property
    def rules(self) -> tuple[PermissionRule, ...]:
        """Who may do what; the one user who needs no rule comes first."""
        rules = tuple(rule.rule(number) for number, rule in enumerate(self.access.rules))
        if self.auth.user is None:
            return rules
        subjects = Subjects(users=frozenset({self.auth.user}))
        return (PermissionRule("auth.user", subjects, (RepositoryGlob("**"),), EVERYTHING), *rules)

    @property
    def keys_folder(self) -> Path:
        """Where the keys of registry tokens are."""
        return self.tokens.keys or self.data_dir / "keys"

    @property
    def judges_images(self) -> bool:
        """Whether there can be policies to ask."""
        return self.image_validation.default is not None or self.admission.policies

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return all(is_loopback(bind.host) for bind in self.listen.bind)
