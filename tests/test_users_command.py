"""`contimg user` and `contimg token`: what they print, and what they leave in the database."""

import json
import re
from pathlib import Path

import pytest
from tests.database import conftest as database_fixtures
from typer.testing import CliRunner

from dsa110_contimg.cli import tokens, users
from dsa110_contimg.database import access_tokens, accounts, audit
from dsa110_contimg.errors import AccessError

root, house, empty_databases = database_fixtures.root, database_fixtures.house, database_fixtures.empty_databases
backend, postgresql, on_postgresql = (
    database_fixtures.backend,
    database_fixtures.postgresql,
    database_fixtures.on_postgresql,
)
house_on_postgresql = database_fixtures.house_on_postgresql
pytestmark = pytest.mark.usefixtures("backend")


def user(*words: str) -> str:
    return CliRunner().invoke(users.app, words, catch_exceptions=False).output


def token(*words: str) -> str:
    return CliRunner().invoke(tokens.app, words, catch_exceptions=False).output


def test_a_user_is_added_invited_promoted_and_removed(house: Path) -> None:
    assert house.is_dir()
    link = re.fullmatch(
        r"https://contimg\.example\.org/invitation/([\w-]{43})\n",
        user("add", "ada", "--role", "operator", "--url", "https://contimg.example.org/"),
    )
    assert link is not None
    assert accounts.invited(link[1]) == "ada"
    told = json.loads(user("link", "ada", "--json"))
    assert accounts.invited(told["link"].rsplit("/", 1)[1]) == told["name"] == "ada"
    assert accounts.invited(link[1]) is None
    assert user("role", "ada", "viewer") == "ada is viewer\n"
    listed = json.loads(user("list", "--json"))
    assert [(one["name"], one["role"], one["has_password"], one["n_tokens"]) for one in listed] == [
        ("ada", "viewer", False, 0)
    ]
    assert "ada" in user("list")
    assert user("remove", "ada") == "ada is removed\n"
    assert accounts.list_users() == []
    actions = [(entry.action, entry.user_name) for entry in reversed(audit.list_changes())]
    assert actions == [(name, audit.COMMAND_LINE) for name in ("add user", "make link", "change role", "remove user")]


def test_a_token_is_printed_once_listed_without_and_revoked(house: Path) -> None:
    assert house.is_dir()
    user("add", "ada")
    made = token("add", "ada", "--label", "nightly", "--days", "2").strip()
    found = access_tokens.user_of_token(made)
    assert found is not None
    assert found.name == "ada"
    listed = token("list", "--json")
    assert made not in listed
    one = json.loads(listed)[0]
    assert (one["id"], one["label"], one["revoked_at"]) == (1, "nightly", None)
    assert one["expires_at"] - one["created_at"] == pytest.approx(2 * 86400.0)
    assert "nightly" in token("list", "--name", "ada")
    assert token("revoke", "1") == "token 1 is revoked\n"
    assert access_tokens.user_of_token(made) is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("link", "nobody"), "no user 'nobody'"),
        (("role", "nobody", "admin"), "no user"),
        (("remove", "nobody"), "no user"),
    ],
)
def test_a_user_who_is_not_there_is_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(AccessError, match=sentence):
        user(*words)


def test_a_token_of_nobody_is_one_sentence() -> None:
    with pytest.raises(AccessError, match="contimg user list"):
        token("add", "nobody")
    with pytest.raises(AccessError, match="contimg token list"):
        token("revoke", "7")
