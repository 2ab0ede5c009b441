"""Who may do what: tokens, sessions, CSRF, links, limits, and a key that nobody else reads.

The route that changes something here is a small one of the tests' own, on the real application.
"""

import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type
from fastapi import Form
from fastapi.testclient import TestClient
from httpx2 import Response
from tests.api.conftest import PASSWORD

from dsa110_contimg.api import access
from dsa110_contimg.api.access import Admin, Operator, Reader, record
from dsa110_contimg.dashboard.app import create_app
from dsa110_contimg.dashboard.login import local_address
from dsa110_contimg.database import access_tokens, accounts, audit, get_session, logins
from dsa110_contimg.database.models import AccessToken, Account, AuditEntry, Invitation, Role
from dsa110_contimg.database.session import on_server
from dsa110_contimg.errors import AccessError, TooManyAttemptsError

pytestmark = pytest.mark.usefixtures("backend")
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
Bearer = Callable[[Role], dict[str, str]]
CSRF = re.compile(r'name="csrf_token" value="([0-9a-f]{64})"')


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the tests what makes guessing slow; one of them looks at the real thing."""
    for module in (accounts, logins):
        monkeypatch.setattr(module, "HASHER", CHEAP)


@pytest.fixture
def site(installation: Path) -> Iterator[TestClient]:
    """The application, with a route that changes something, one for admins and one that reads."""
    assert installation.is_dir()
    app = create_app()

    @app.post("/things/{name}")
    def change(name: str, user: Operator, why: Annotated[str, Form()] = "") -> str:
        record(user, "change", f"thing {name}", why or None)
        return user.name

    @app.get("/secrets")
    def secrets(user: Admin) -> str:
        return user.name

    @app.get("/who")
    def who(user: Reader) -> str:
        return user.name

    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as asking:
        yield asking


def make_user(name: str, role: Role) -> None:
    accounts.accept_invitation(accounts.add_user(name, role), PASSWORD)


def log_in(site: TestClient, name: str, password: str = PASSWORD, **more: str) -> Response:
    token = CSRF.search(site.get("/login").text)
    assert token is not None
    return site.post("/login", data={"name": name, "password": password, "csrf_token": token[1], **more})


def csrf_of_page(site: TestClient) -> str:
    found = CSRF.search(site.get("/account").text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("role", "change", "admin"),
    [(None, 401, 401), (Role.VIEWER, 403, 403), (Role.OPERATOR, 200, 403), (Role.ADMIN, 200, 200)],
)
def test_each_role_may_what_it_may(
    site: TestClient, bearer: Bearer, role: Role | None, change: int, admin: int
) -> None:
    header = {} if role is None else bearer(role)
    assert site.get("/who", headers=header).status_code == 200
    assert site.post("/things/x", headers=header).status_code == change
    assert site.get("/secrets", headers=header).status_code == admin
    assert [entry.user_name for entry in audit.list_changes(action="change")] == (
        [] if role in {None, Role.VIEWER} else [f"{role}-ada"]
    )


def test_a_refusal_says_what_is_needed(site: TestClient, bearer: Bearer) -> None:
    nobody, viewer = site.post("/things/x"), site.post("/things/x", headers=bearer(Role.VIEWER))
    assert nobody.headers["www-authenticate"] == "Bearer"
    assert "operator" in nobody.json()["detail"]
    assert viewer.json()["detail"] == "viewer-ada is viewer; this needs the role operator"


@pytest.mark.parametrize("token", ["", "x", "contimg_" + "A" * 43, "\xff", "Basic"])
def test_a_wrong_token_is_refused_even_for_reading(site: TestClient, token: str) -> None:
    assert site.get("/who", headers=[(b"Authorization", f"Bearer {token}".encode("latin-1"))]).status_code == 401


def test_tokens_end_when_revoked_expired_or_their_user_is_removed(site: TestClient, bearer: Bearer) -> None:
    header = bearer(Role.OPERATOR)
    make_user("other", Role.ADMIN)
    number, short = access_tokens.add_token("operator-ada", "short", days=1e-9)
    assert number == 2
    time.sleep(0.001)
    assert site.get("/who", headers={"Authorization": f"Bearer {short}"}).status_code == 401
    assert site.get("/who", headers=header).json() == "operator-ada"
    assert access_tokens.list_tokens()[0].last_used_at is not None
    with pytest.raises(AccessError, match="no token 1"):
        access_tokens.revoke_token(1, user_name="other")
    accounts.remove_user("operator-ada")
    assert site.get("/who", headers=header).status_code == 401
    assert access_tokens.list_tokens() == []


def test_the_database_holds_nothing_to_log_in_with(installation: Path, bearer: Bearer) -> None:
    token = bearer(Role.ADMIN)["Authorization"].split()[1]
    secret = accounts.invite("admin-ada")
    if on_server():
        with get_session("data_registry", read_only=True) as session:
            tables = (Account, AccessToken, Invitation, AuditEntry)
            rows = [vars(row) for table in tables for row in session.query(table)]
        content = str(rows).encode()
    else:
        content = b"".join(path.read_bytes() for path in (installation / "state").glob("data_registry.sqlite3*"))
    assert accounts.sha256_of(token).encode() in content
    assert b"$argon2id$" in content
    for plain in (token, secret, PASSWORD):
        assert plain.encode() not in content


def test_reading_needs_a_login_where_it_is_asked_for(
    site: TestClient, bearer: Bearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_REQUIRE_LOGIN", "true")
    guarded = ("/who", "/metrics", "/api/v1/data-registry")
    assert [site.get(path).status_code for path in guarded] == [401, 401, 401]
    assert site.get("/login").status_code == 200
    page = site.get("/who", headers={"Accept": "text/html"})
    assert 'href="/login?then=/who"' in page.text
    header = bearer(Role.VIEWER)
    assert [site.get(path, headers=header).status_code for path in guarded] == [200, 200, 200]


def test_a_session_reads_and_changes_with_its_csrf_token_only(site: TestClient) -> None:
    make_user("ada", Role.OPERATOR)
    answer = log_in(site, "ada", then="/who")
    assert (answer.status_code, answer.headers["location"]) == (303, "/who")
    assert site.get("/who").json() == "ada"
    token = csrf_of_page(site)
    assert site.post("/things/x").status_code == 403
    assert site.post("/things/x", data={"csrf_token": token[::-1]}).status_code == 403
    assert site.post("/things/x", data={"csrf_token": token, "why": "seen"}).json() == "ada"
    assert site.post("/things/x", headers={"X-CSRF-Token": token}).json() == "ada"
    assert [(entry.target, entry.detail) for entry in audit.list_changes(action="change")] == [
        ("thing x", None),
        ("thing x", "seen"),
    ]


def test_the_cookie_is_http_only_same_site_and_secure_behind_https(site: TestClient) -> None:
    make_user("ada", Role.VIEWER)
    plain = log_in(site, "ada").headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(plain.split("; "))
    assert "Secure" not in plain
    with TestClient(site.app, base_url="https://testserver", follow_redirects=False) as behind_tls:
        assert "Secure" in log_in(behind_tls, "ada").headers["set-cookie"].split("; ")


def test_a_login_changes_the_session_and_a_logout_ends_copies_of_its_cookie(site: TestClient) -> None:
    make_user("ada", Role.OPERATOR)
    site.get("/login")
    before = site.cookies[access.COOKIE]
    log_in(site, "ada")
    copied = site.cookies[access.COOKIE]
    assert copied != before
    assert site.post("/logout", data={"csrf_token": csrf_of_page(site)}).status_code == 303
    site.cookies.clear()
    assert site.get("/account", headers={"Cookie": f"{access.COOKIE}={copied}"}).status_code == 401


@pytest.mark.parametrize("change", ["role", "password", "remove"])
def test_sessions_end_when_the_user_changes(site: TestClient, change: str) -> None:
    make_user("ada", Role.OPERATOR)
    make_user("root", Role.ADMIN)
    log_in(site, "ada")
    assert site.get("/account").status_code == 200
    if change == "role":
        accounts.change_role("ada", Role.VIEWER)
    elif change == "password":
        accounts.accept_invitation(accounts.invite("ada"), "another good password")
    else:
        accounts.remove_user("ada")
    assert site.get("/account").status_code == 401


def test_a_cookie_does_not_fit_a_later_user_of_the_same_name(site: TestClient) -> None:
    make_user("root", Role.ADMIN)
    make_user("ada", Role.VIEWER)
    log_in(site, "ada")
    assert site.get("/account").status_code == 200
    accounts.remove_user("ada")
    make_user("ada", Role.ADMIN)
    assert site.get("/account").status_code == 401


def test_a_cookie_of_somebody_elses_key_or_a_torn_one_is_no_session(
    site: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_user("ada", Role.ADMIN)
    log_in(site, "ada")
    real = site.cookies[access.COOKIE]
    for wrong in (real[:-2], "e30.x.y", "", real.replace(".", "", 1), "W10." + real.split(".", 1)[1]):
        site.cookies.clear()
        assert site.get("/account", headers={"Cookie": f"{access.COOKIE}={wrong}"}).status_code == 401, wrong
    site.cookies.set(access.COOKIE, real)
    assert site.get("/account").status_code == 200
    monkeypatch.setattr(access, "session_key", lambda: b"k" * 32)
    assert site.get("/account").status_code == 401


def test_a_forged_login_from_elsewhere_is_refused(site: TestClient) -> None:
    make_user("ada", Role.ADMIN)
    assert site.post("/login", data={"name": "ada", "password": PASSWORD}).status_code == 403
    assert site.post("/logout").status_code == 403


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:1", "/a\nb", "", "/ä"]
)
def test_a_login_leads_to_this_server_only(elsewhere: str) -> None:
    assert local_address(elsewhere) == "/"
    assert local_address("/sources?sort=-eta") == "/sources?sort=-eta"


def test_wrong_logins_are_told_alike_and_run_out(site: TestClient) -> None:
    make_user("ada", Role.VIEWER)
    accounts.add_user("invited", Role.VIEWER)
    answers = [log_in(site, name, "wrong password") for name in ("ada", "nobody", "invited")]
    assert {answer.status_code for answer in answers} == {401}
    assert len({re.sub("[0-9a-f]{64}", "", answer.text) for answer in answers}) == 1
    tried = [log_in(site, "ada", "wrong password").status_code for _ in range(5)]
    assert tried == [401] * 4 + [429]
    late = log_in(site, "ada")
    assert late.status_code == 429
    assert int(late.headers["retry-after"]) == logins.WINDOW_S
    assert "wait 15 minutes" in late.text


def test_a_right_password_takes_its_attempt_back_and_time_heals(
    installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installation.is_dir()
    make_user("ada", Role.VIEWER)
    for _ in range(logins.MAX_AT_ADDRESS + 2):
        assert logins.log_in("ada", PASSWORD, "1.2.3.4").name == "ada"
    for _ in range(logins.MAX_AT_ADDRESS):
        with pytest.raises(AccessError, match="name or password"):
            logins.log_in("ada", "x" * 12, "1.2.3.4")
    with pytest.raises(TooManyAttemptsError):
        logins.log_in("ada", PASSWORD, "1.2.3.4")
    assert logins.log_in("ada", PASSWORD, "5.6.7.8").name == "ada"
    later = time.time() + logins.WINDOW_S + 1.0
    monkeypatch.setattr("dsa110_contimg.database.logins.time.time", lambda: later)
    assert logins.log_in("ada", PASSWORD, "1.2.3.4").name == "ada"


def test_many_attempts_at_once_are_not_more_guesses(installation: Path) -> None:
    assert installation.is_dir()
    make_user("ada", Role.VIEWER)
    told: list[str] = []

    def guess() -> None:
        try:
            logins.log_in("ada", "a wrong password", "1.2.3.4")
        except AccessError as error:
            told.append(type(error).__name__)

    threads = [threading.Thread(target=guess) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["AccessError"] * 5 + ["TooManyAttemptsError"] * 7


def test_a_link_works_once_for_a_day_and_until_a_newer_one(site: TestClient) -> None:
    old = accounts.add_user("ada", Role.ADMIN)
    new = accounts.invite("ada")
    assert site.get(f"/invitation/{old}").status_code == 410
    form = site.get(f"/invitation/{new}")
    token = CSRF.search(form.text)
    assert token is not None
    sent = {"csrf_token": token[1], "password": PASSWORD, "again": PASSWORD}
    assert "differ" in site.post(f"/invitation/{new}", data={**sent, "again": "another password"}).text
    assert "12 to 200" in site.post(f"/invitation/{new}", data={**sent, "password": "short", "again": "short"}).text
    assert site.post(f"/invitation/{new}", data={**sent, "csrf_token": "0" * 64}).status_code == 403
    assert site.post(f"/invitation/{new}", data=sent).headers["location"] == "/account"
    assert site.get("/account").status_code == 200
    assert "works no more" in site.post(f"/invitation/{new}", data=sent | {"csrf_token": csrf_of_page(site)}).text
    late = accounts.invite("ada")
    with get_session("data_registry") as session:
        session.query(Invitation).update({"expires_at": time.time() - 1.0})
    assert accounts.invited(late) is None


def test_the_only_admin_stays_one(installation: Path) -> None:
    assert installation.is_dir()
    assert accounts.lacks_admin()
    secret = accounts.first_admin()
    assert accounts.lacks_admin()
    assert accounts.first_admin() != secret
    accounts.accept_invitation(accounts.first_admin(), PASSWORD)
    assert not accounts.lacks_admin()
    with pytest.raises(AccessError, match="only admin"):
        accounts.remove_user("admin")
    with pytest.raises(AccessError, match="only admin"):
        accounts.change_role("admin", Role.VIEWER)


@pytest.mark.parametrize("name", ["Ada", "a b", "", "-a", "command line", "a" * 64, "a\0", "ä", "../x"])
def test_names_that_cannot_be_one(installation: Path, name: str) -> None:
    assert installation.is_dir()
    with pytest.raises(AccessError, match="cannot be a user's name"):
        accounts.add_user(name, Role.VIEWER)


def test_a_password_is_hashed_as_the_rfc_recommends_and_rehashed_when_that_changes(
    installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installation.is_dir()
    make_user("ada", Role.VIEWER)
    monkeypatch.setattr(logins, "HASHER", PasswordHasher())
    logins.log_in("ada", PASSWORD, "1.2.3.4")
    with get_session("data_registry", read_only=True) as session:
        hashed = session.get_one(Account, "ada").password_hash
    assert hashed is not None
    found = extract_parameters(hashed)
    assert (found.type, found.memory_cost >= 65536, found.time_cost >= 3) == (Type.ID, True, True)


@pytest.mark.parametrize("password", ["x" * 11, "x" * 201])
def test_passwords_that_cannot_be_one(password: str) -> None:
    with pytest.raises(AccessError, match="12 to 200"):
        accounts.hashed_password(password)


def test_the_key_is_for_this_user_only_and_the_same_for_every_process(installation: Path) -> None:
    key = access.session_key()
    path = installation / "state" / "session.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == key == access.session_key()
    assert len(key) == 32


def test_own_tokens_are_made_shown_once_and_revoked_on_the_page(site: TestClient) -> None:
    make_user("ada", Role.OPERATOR)
    make_user("eve", Role.OPERATOR)
    foreign, _ = access_tokens.add_token("eve", "hers")
    log_in(site, "ada")
    csrf = {"csrf_token": csrf_of_page(site)}
    made = site.post("/account/tokens", data={**csrf, "label": "<b>report</b>", "days": "30"})
    token = re.search(r"contimg_[\w-]{43}", made.text)
    assert token is not None
    assert "<b>" not in made.text
    assert site.get("/who", headers={"Authorization": f"Bearer {token[0]}"}).json() == "ada"
    assert token[0] not in site.get("/account").text
    assert site.post(f"/account/tokens/{foreign}/revoke", data=csrf).status_code == 404
    assert site.post(f"/account/tokens/{foreign + 1}/revoke", data=csrf).status_code == 303
    assert site.get("/who", headers={"Authorization": f"Bearer {token[0]}"}).status_code == 401


def test_the_audit_is_for_admins_and_comes_in_pages(site: TestClient, bearer: Bearer) -> None:
    for number in range(5):
        audit.record("ada" if number % 2 else "eve", "publish", f"product m{number}", "because")
    header = bearer(Role.ADMIN)
    assert site.get("/api/v1/audit").status_code == 401
    first = site.get("/api/v1/audit", params={"limit": 2, "action": "publish"}, headers=header)
    second = site.get(first.links["next"]["url"], headers=header).json()
    targets = [change["target"] for page in (first.json(), second) for change in page["items"]]
    assert targets == ["product m4", "product m3", "product m2", "product m1"]
    mine = site.get("/api/v1/audit", params={"user": "ada", "target": "product m3"}, headers=header).json()["items"]
    assert [(change["user"], change["detail"]) for change in mine] == [("ada", "because")]
    assert site.get("/audit", headers=header).text.count("product m") == 5
    assert site.get("/audit?user=&action=", headers=header).status_code == 200


def test_removing_a_user_keeps_what_the_user_did(installation: Path) -> None:
    assert installation.is_dir()
    make_user("ada", Role.OPERATOR)
    access_tokens.add_token("ada", "x")
    audit.record("ada", "publish", "product m1")
    accounts.remove_user("ada")
    with get_session("data_registry", read_only=True) as session:
        assert [session.query(table).count() for table in (Account, AccessToken, Invitation, AuditEntry)] == [
            0,
            0,
            0,
            1,
        ]
