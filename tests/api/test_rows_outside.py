"""Rows whose files lie outside the configured folders, by path, by `..` or by a link: nothing is told of them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from tests.api.conftest import PASSWORD
from tests.api.survey import PUBLISHED, Survey

from dsa110_contimg.dashboard.app import create_app
from dsa110_contimg.database import get_session, reset_engines
from dsa110_contimg.database.access_tokens import add_token
from dsa110_contimg.database.accounts import accept_invitation, add_user
from dsa110_contimg.database.models import Role

SECRET = "what only the outside knows"
FILES = ("fits", "fits?pixels=64", "preview", "thumbnail", "cutout?ra=0&dec=37", "provenance")


class Outside:
    """An installation, and a folder beside it that it must not show."""

    def __init__(self, root: Path, outside: Path) -> None:
        self.root, self.outside = root, outside
        self.image = outside / f"{PUBLISHED}.fits"


@pytest.fixture
def outside(built_survey: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outside]:
    root, beyond = tmp_path / "root", tmp_path / "beyond"
    shutil.copytree(built_survey.root, root)
    beyond.mkdir()
    monkeypatch.setenv("PIPELINE_ROOT", str(root))
    reset_engines()
    made = Outside(root, beyond)
    shutil.copy(root / "products" / "mosaics" / f"{PUBLISHED}.fits", made.image)
    shutil.copytree(next((root / "stage" / "caltables").iterdir()), beyond / "table")
    (beyond / "secret.txt").write_text(SECRET)
    yield made
    reset_engines()


@pytest.fixture
def asking(outside: Outside) -> Iterator[TestClient]:
    assert outside.root.is_dir()
    with TestClient(create_app(), raise_server_exceptions=False) as client:
        yield client


def put(database: str, statement: str, **values: object) -> None:
    with get_session(database) as session:
        session.execute(text(statement), values)


@pytest.mark.parametrize("how", ["path", "dots", "link", "device"])
def test_an_image(outside: Outside, asking: TestClient, how: str) -> None:
    link = outside.root / "stage" / "images" / "leading_outside.fits"
    link.symlink_to(outside.image)
    paths = {
        "path": outside.image,
        "dots": outside.root / "stage" / ".." / ".." / "beyond" / outside.image.name,
        "link": link,
        "device": Path("/dev/zero"),
    }
    put("products", "UPDATE images SET path = :path, cellsize_arcsec = NULL WHERE id = 1", path=str(paths[how]))
    assert [asking.get(f"/api/v1/images/1/{name}").status_code for name in FILES] == [404] * len(FILES)
    assert asking.get("/api/v1/images/1/sources").json()["catalog_missing"] == "the image's file is not there"
    observed = asking.get("/vo/sia2/query", params={"ID": "ivo://dsa110.contimg/images?1"})
    assert (observed.status_code, observed.text.count("<TR>")) == (200, 0)


def test_a_mosaic(outside: Outside, asking: TestClient) -> None:
    files = {"path": str(outside.image), "other": str(outside.outside / "secret.txt")}
    put(
        "products",
        "UPDATE mosaics SET path = :path, thumbnail_path = :other, noise_path = :other WHERE id = 1",
        **files,
    )
    for name in ("fits", "noise", "weight", "view", "preview", "thumbnail", "cutout?ra=0&dec=37"):
        answer = asking.get(f"/api/v1/mosaics/{PUBLISHED}/{name}")
        assert (answer.status_code, SECRET in answer.text) == (404, False), name
    told = asking.get(f"/api/v1/mosaics/{PUBLISHED}").json()
    assert (told["freq_ghz"], told["imsize_x"]) == (None, None)
    links = asking.get("/vo/datalink", params={"ID": f"ivo://dsa110.contimg/mosaics?{PUBLISHED}"}).text
    assert "the mosaic<" not in links
    assert "noise map<" not in links


def test_plots_tables_and_atlases(outside: Outside, asking: TestClient) -> None:
    put("products", "UPDATE qa_artifacts SET path = :path", path=str(outside.outside / "secret.txt"))
    assert [asking.get(f"/api/v1/qa/artifacts/1/{name}").status_code for name in ("file", "preview")] == [404, 404]
    inner = outside.root / "stage" / "caltables" / "linked"
    shutil.copytree(outside.outside / "table", inner)
    (inner / "table.f0").unlink()
    (inner / "table.f0").symlink_to(outside.outside / "table" / "table.f0")
    for path in (outside.outside / "table", inner):
        put("cal_registry", "UPDATE caltables SET path = :path WHERE id = 1", path=str(path))
        assert "outside" in asking.get("/api/v1/caltables/1/solutions").json()["detail"]
    put("data_registry", "UPDATE data_registry SET published_path = :path", path=str(outside.image))
    for folder in (f"{PUBLISHED}.hips", f"{PUBLISHED}-hips"):
        (outside.outside / folder).mkdir()
        (outside.outside / folder / "properties").write_text(f"obs_title = {SECRET}\n")
    for address in (
        "/api/v1/hips",
        f"/api/v1/hips/{PUBLISHED}",
        f"/api/v1/hips/{PUBLISHED}/properties",
        "/vo/hips/hipslist",
    ):
        assert SECRET not in asking.get(address).text


def test_nothing_outside_is_published_or_retracted_and_refusals_name_no_folder(
    outside: Outside, asking: TestClient
) -> None:
    accept_invitation(add_user("ada", Role.OPERATOR), PASSWORD)
    header = {"Authorization": f"Bearer {add_token('ada', 'tests')[1]}"}
    put("data_registry", "UPDATE data_registry SET published_path = :path, stage_path = :path", path=str(outside.image))
    for what, name in (("publish", "mosaic_2025-12-25_03-09-00"), ("retract", PUBLISHED)):
        answer = asking.post(f"/api/v1/data-registry/{name}/{what}", json={"reason": "why"}, headers=header)
        assert answer.status_code == 409
        assert str(outside.root) not in answer.text
    assert outside.image.is_file()
