"""The printf-style templates of `ipfs cid format -f`.

Spec: go-cidutil's `FormatRef`, as of kubo 0.40; what each letter stands for is listed at `format_cid`
"""

from ipvcs.errors import UsageError
from ipvcs.multiformats import codecs, multibase, multihash
from ipvcs.multiformats.cid import Cid


class CidTemplateError(UsageError):
    """A template asks for what there is not."""

    def __init__(self, message: str, template: str) -> None:
        super().__init__(
            f"invalid CID template '{template}': {message}",
            hint="after '%' comes one of: % b B v V c C h H L m M d D s S P",
        )
        self.template = template


def format_cid(cid: Cid, template: str = "%s", base: str = "") -> str:
    """Return `template` with each `%` and letter replaced.

    `%b` and `%B` are the multibase's name and code, `%v` and `%V` the version as `cidv1` and `1`, `%c` and `%C` the
    codec's name and number, `%h` and `%H` the hash function's, `%L` the digest's length in bytes, `%m` the multihash,
    `%d` the digest and `%s` the CID, each in that multibase (as a capital: without its prefix), `%P` the prefix
    `cidv1-raw-sha2-256-32`, `%%` a percent sign.

    Args:
        cid: what to write.
        template: text; without any `%` it is returned as it is.
        base: a multibase by name; the default is what `str(cid)` uses.

    Raises:
        CidTemplateError: another letter after `%`, or none.
        CidError: `%s` of a v0 CID in another base than base58btc.
        multibase.UnknownBaseError: no such base.
    """
    base = base or ("base32" if cid.version else "base58btc")
    out: list[str] = []
    position = 0
    while (percent := template.find("%", position)) >= 0:
        out.append(template[position:percent])
        letter = template[percent + 1 : percent + 2]
        if not letter:
            raise CidTemplateError("it ends with a lone '%'", template)
        out.append(_field(cid, letter, base, template))
        position = percent + 2
    out.append(template[position:])
    return "".join(out)


def base_of(text: str) -> str:
    """Return the name of the multibase that a CID's text is written in; base58btc for v0.

    Kubo prints a CID in the base it was given in unless told otherwise.

    Raises:
        CidError: no CID.
    """
    return "base58btc" if Cid.parse(text).version == 0 else multibase.decode_with_base(text)[0]


def _field(cid: Cid, letter: str, base: str, template: str) -> str:
    match letter:
        case "%":
            return "%"
        case "b":
            return base
        case "B":
            return multibase.encode(b"", base)[0]
        case "v":
            return f"cidv{cid.version}"
        case "V":
            return str(cid.version)
        case "c":
            return _codec_name(cid)
        case "C":
            return str(cid.codec)
        case "h":
            return _hash_name(cid)
        case "H":
            return str(cid.hash_code)
        case "L":
            return str(len(cid.digest))
        case "m":
            return multibase.encode(cid.multihash, base)
        case "M":
            return multibase.encode(cid.multihash, base)[1:]
        case "d":
            return multibase.encode(cid.digest, base)
        case "D":
            return multibase.encode(cid.digest, base)[1:]
        case "s":
            return cid.encode(base)
        case "S":
            return multibase.encode(cid.raw, base)[1:]
        case "P":
            return f"cidv{cid.version}-{_codec_name(cid)}-{_hash_name(cid)}-{len(cid.digest)}"
    raise CidTemplateError(f"'%{letter}' is not known", template)


def _codec_name(cid: Cid) -> str:
    name = codecs.name_of(cid.codec)
    return f"Code({cid.codec})" if name.startswith("0x") else name  # as go-multicodec writes a number without a name


def _hash_name(cid: Cid) -> str:
    name = multihash.name_of(cid.hash_code)
    return f"hash?{cid.hash_code}" if name.startswith("0x") else name  # as go-cidutil does
