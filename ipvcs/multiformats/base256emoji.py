"""Base256emoji: a byte as one emoji, each a single code point.

Spec: https://github.com/multiformats/multibase/blob/master/rfcs/Base256Emoji.md
"""

from typing import Final

# The order is the spec's: space, moon, earth, then by how often people use them.
_ALPHABET: Final = (
    "🚀🪐☄🛰🌌🌑🌒🌓🌔🌕🌖🌗🌘🌍🌏🌎🐉☀💻🖥💾💿😂❤😍🤣😊🙏💕😭😘👍"
    "😅👏😁🔥🥰💔💖💙😢🤔😆🙄💪😉☺👌🤗💜😔😎😇🌹🤦🎉💞✌✨🤷😱😌🌸🙌"
    "😋💗💚😏💛🙂💓🤩😄😀🖤😃💯🙈👇🎶😒🤭❣😜💋👀😪😑💥🙋😞😩😡🤪👊🥳"
    "😥🤤👉💃😳✋😚😝😴🌟😬🙃🍀🌷😻😓⭐✅🥺🌈😈🤘💦✔😣🏃💐☹🎊💘😠☝"
    "😕🌺🎂🌻😐🖕💝🙊😹🗣💫💀👑🎵🤞😛🔴😤🌼😫⚽🤙☕🏆🤫👈😮🙆🍻🍃🐶💁"
    "😲🌿🧡🎁⚡🌞🎈❌✊👋😰🤨😶🤝🚶💰🍓💢🤟🙁🚨💨🤬✈🎀🍺🤓😙💟🌱😖👶"
    "🥴▶➡❓💎💸⬇😨🌚🦋😷🕺⚠🙅😟😵👎🤲🤠🤧📌🔵💅🧐🐾🍒😗🤑🌊🤯🐷☎"
    "💧😯💆👆🎤🙇🍑❄🌴💣🐸💌📍🥀🤢👅💡💩👐📸👻🤐🤮🎼🥵🚩🍎🍊👼💍📣🥂"
)
_VALUES: Final = {char: value for value, char in enumerate(_ALPHABET)}


def encode(data: bytes) -> str:
    """Return the text of `data`, a character a byte."""
    return "".join([_ALPHABET[byte] for byte in data])


def decode(text: str) -> bytes:
    """Return the bytes that `text` writes.

    Raises:
        ValueError: a character outside the alphabet; variation selectors and skin tones are such.
    """
    try:
        return bytes([_VALUES[char] for char in text])
    except KeyError as exc:
        raise ValueError(f"character {exc.args[0]!r} is not in its alphabet") from None
