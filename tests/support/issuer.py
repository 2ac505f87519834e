"""A real OIDC issuer on loopback: discovery, keys, and tokens signed with them.

    with Issuer.start() as issuer:
        token = issuer.token(sub="repo:acme/app:ref:refs/heads/main", repository="acme/app")

It can rotate its keys, be slow (`delay`), down (`down`, `up`) and lie (`discovery`, `jwks`).
"""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from support.apiserver import Answer, Loopback

if TYPE_CHECKING:
    import ssl

AUDIENCE: Final = "registry.example.com"
ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
DISCOVERY: Final = "/.well-known/openid-configuration"
JWKS: Final = "/keys"

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def new_key(algorithm: str) -> PrivateKey:
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm.startswith("ES"):
        return ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}[algorithm])
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(key: PrivateKey, algorithm: str, **more: str) -> dict[str, Any]:
    written = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key())
    return {**json.loads(written), "use": "sig", "alg": algorithm, **more}


class Issuer(Loopback):
    """One key for each algorithm.

    Attributes:
        discovery, jwks: what to publish instead of the truth.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.discovery: Answer | None = None
        self.jwks: Answer | None = None
        self.keys: dict[str, PrivateKey] = {}
        self.kids: dict[str, str] = {}
        self.rotate()

    def rotate(self) -> None:
        """New keys, and the old ones are not listed any more."""
        self.keys = {algorithm: new_key(algorithm) for algorithm in ALGORITHMS}
        self.kids = {algorithm: secrets.token_hex(4) for algorithm in ALGORITHMS}

    def token(self, algorithm: str = "ES256", /, **claims: Any) -> str:
        """A good token, except for the claims given; None leaves one out."""
        return self.sign(self.claims(**claims), algorithm)

    def claims(self, **claims: Any) -> dict[str, Any]:
        now = int(time.time())
        usual = {"iss": self.url, "sub": "someone", "aud": AUDIENCE, "iat": now, "exp": now + 300}
        return {name: value for name, value in (usual | claims).items() if value is not None}

    def sign(self, claims: dict[str, Any], algorithm: str = "ES256", headers: dict[str, Any] | None = None) -> str:
        """Any claims at all, with the issuer's key."""
        given = {"kid": self.kids[algorithm]} | (headers or {})
        return jwt.encode(claims, self.keys[algorithm], algorithm=algorithm, headers=given)

    def published_keys(self) -> dict[str, Any]:
        return {"keys": [public_jwk(key, name, kid=self.kids[name]) for name, key in self.keys.items()]}

    def published_discovery(self, **changes: Any) -> dict[str, Any]:
        return {"issuer": self.url, "jwks_uri": self.url + JWKS, "response_types_supported": ["id_token"]} | changes

    async def answer(self, path: str, document: Any, headers: dict[str, str]) -> Answer:
        if path == DISCOVERY:
            return self.discovery or Answer(self.published_discovery())
        if path == JWKS:
            return self.jwks or Answer(self.published_keys())
        return Answer({}, status=404)
