from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.identity.puzzle import difficulty_of, solve
from tests.unit.node.identity.key_pool import KEYS, ed25519_key


def test_the_difficulty_is_the_zero_bits_before_the_double_hash_of_the_public_key() -> None:
    digest = sha256(sha256(ed25519_key(1).public_key.encode()).digest()).hexdigest()
    bits = "".join(f"{int(digit, 16):04b}" for digit in digest)
    assert difficulty_of(ed25519_key(1).public_key) == len(bits) - len(bits.lstrip("0"))


def test_known_keys_have_these_difficulties() -> None:
    """Frozen: a network that demands a difficulty must get the same answer for ever. Computed by sha256sum(1)."""
    found = {kind.name: difficulty_of(key.public_key) for kind, key in KEYS.items()}
    assert found == {"ECDSA": 0, "ED25519": 1, "SECP256K1": 6, "RSA": 1}


@given(st.integers(0, 5), st.integers(0, 2**64))
def test_a_solution_is_the_first_key_that_is_hard_enough(difficulty: int, start: int) -> None:
    made: list[PrivateKey] = []
    reported: list[int] = []

    def make() -> PrivateKey:
        made.append(ed25519_key(start + len(made)))
        return made[-1]

    key = solve(difficulty, make, reported.append)

    assert key is made[-1]
    assert difficulty_of(key.public_key) >= difficulty
    assert all(difficulty_of(other.public_key) < difficulty for other in made[:-1])
    assert reported == list(range(1, len(made)))


def test_difficulty_0_is_solved_by_the_first_key() -> None:
    assert solve(0, lambda: ed25519_key(9), lambda _tries: None) == ed25519_key(9)


def test_each_bit_doubles_the_work() -> None:
    """Of 4096 keys a 16th or so solve 4 bits: 256 expected, standard deviation 15.5."""
    solved = sum(difficulty_of(ed25519_key(number).public_key) >= 4 for number in range(4096))
    assert 180 < solved < 340
