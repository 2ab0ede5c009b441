"""Every byte of the products area is accounted for, and what is not is named."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from tests.database.conftest import Registry
from tests.database.nobody import ONLY_ROOT, by_nobody, open_to_all

from dsa110_contimg.database import disk_steps, fixity, publications, publishing, retraction
from dsa110_contimg.database.claims import PublishRequest, claim
from dsa110_contimg.database.data_registry import get_data, publish_data_instance, register_data_instance
from dsa110_contimg.database.fixity import Finding, Findings, FixityReport, verify
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.database.retraction import retract
from dsa110_contimg.formats import fits_image
from dsa110_contimg.visibilities import SkyImage, SkyPosition

WHY = {"reason": "the wrong calibrator", "by": "ana"}


def published(registry: Registry, data_id: str = "m1", *, folder: bool = False) -> Path:
    """Publish a product with a companion, and return where it is."""
    source = registry.add(data_id, folder=folder)
    noise = source.with_name(f"{data_id}-noise.fits")
    noise.write_bytes(b"noise of " + data_id.encode())
    registry.sql(
        "UPDATE data_registry SET metadata_json = ? WHERE data_id = ?",
        json.dumps({"companions": [str(noise)]}),
        data_id,
    )
    assert publish_data_instance(registry.conn, data_id, roots=registry.roots)
    return registry.roots.products / "mosaics" / source.name


def paths(findings: list[Finding]) -> list[str]:
    return sorted(Path(finding.path).name for finding in findings)


def summary(found: Findings) -> dict[str, list[str]]:
    """Return the names that are not sound, by what is the matter with them."""
    groups = {name: paths(getattr(found, name)) for name in ("changed", "missing", "unverified")}
    if isinstance(found, FixityReport):
        groups["unknown"] = paths(found.unknown)
    return {name: group for name, group in groups.items() if group}


def open_up(path: Path) -> Path:
    path.chmod(0o644)
    return path


def test_what_was_not_touched_is_sound(registry: Registry) -> None:
    published(registry)
    published(registry, "m2", folder=True)
    published(registry, "m3")
    retract(registry.conn, "m3", **WHY, roots=registry.roots)
    registry.add("staged")
    told: list[tuple[str, int, int]] = []
    report = verify(registry.conn, roots=registry.roots, tell=lambda *progress: told.append(progress))
    assert report.intact
    assert paths(report.sound) == ["m1-noise.fits", "m1.fits", "m2-noise.fits", "m2.image"]
    assert paths(report.retracted.sound) == ["m3-noise.fits", "m3.fits"]
    assert told == [("m1", 0, 3), ("m2", 1, 3), ("m3", 2, 3)]
    assert summary(report) == summary(report.retracted) == {}
    stored = json.loads(json.dumps(report.as_dict()))
    assert stored["intact"] is True
    assert [entry["data_id"] for entry in stored["retracted"]["sound"]] == ["m3", "m3"]


def one_bit(path: Path) -> None:
    """As a disk does it: the size and the times stay."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    open_up(path).write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def cut_short(path: Path) -> None:
    open_up(path).write_bytes(path.read_bytes()[:-1])


def by_a_link(path: Path) -> None:
    kept = path.with_name("kept")
    path.rename(kept)
    path.symlink_to(kept)


def by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [one_bit, cut_short, by_a_link, by_a_folder])
@pytest.mark.parametrize("retracted", [False, True])
def test_any_change_is_found(registry: Registry, damage: Callable[[Path], None], retracted: bool) -> None:
    path = published(registry)
    published(registry, "m2")
    if retracted:
        path = retract(registry.conn, "m1", **WHY, roots=registry.roots)
    damage(path)
    report = verify(registry.conn, roots=registry.roots)
    assert not report.intact
    group = report.retracted if retracted else report
    assert paths(group.changed) == ["m1.fits"]
    assert str(path) in group.changed[0].sentence
    assert group.changed[0].data_id == "m1"
    assert len(report.sound) + len(report.retracted.sound) == 3, "the rest is sound"
    assert get_data(registry.conn, "m1").status == ("retracted" if retracted else "published")


@pytest.mark.parametrize("change", ["content", "more", "less", "renamed", "link"])
def test_any_change_within_a_folder_is_found(registry_file: Registry, change: str) -> None:
    path = published(registry_file, folder=True)
    inner = path / "table" / "data.f0"
    if change == "content":
        one_bit(inner)
    elif change == "more":
        (path / "empty" / "new").write_bytes(b"")
    elif change == "less":
        (path / "empty").rmdir()
    elif change == "renamed":
        inner.rename(inner.with_name("data.f1"))
    else:
        (path / "empty" / "link").symlink_to("/etc/passwd")
    report = verify(registry_file.conn, roots=registry_file.roots)
    assert summary(report) == {"changed": ["m1.image"]}


def test_missing_and_unknown_files(registry: Registry) -> None:
    published(registry).unlink()
    products = registry.roots.products
    (products / "mosaics" / "old").mkdir()
    for name in ("mosaics/old/x.fits", "stray.txt", "mosaics/m9.fits.1.partial", "retracted/lost.fits"):
        (products / name).parent.mkdir(exist_ok=True)
        (products / name).write_bytes(b"x")
    (products / "mosaics" / "dangling").symlink_to("nowhere")
    report = verify(registry.conn, roots=registry.roots)
    assert summary(report) == {
        "missing": ["m1.fits"],
        "unknown": ["dangling", "lost.fits", "m9.fits.1.partial", "stray.txt", "x.fits"],
    }
    assert "restore it, or retract the product" in report.missing[0].sentence
    assert {finding.data_id for finding in report.unknown} == {None}


def test_only_what_was_published_since(registry: Registry) -> None:
    one_bit(published(registry))
    one_bit(published(registry, "m2"))
    registry.sql("UPDATE data_registry SET published_at = ? WHERE data_id = 'm1'", 1000.0)
    registry.sql("UPDATE data_registry SET published_at = ? WHERE data_id = 'm2'", 2000.0)
    for since, found in ((None, ["m1.fits", "m2.fits"]), (1000.1, ["m2.fits"]), (2000.0, ["m2.fits"]), (2001.0, [])):
        report = verify(registry.conn, since=since, roots=registry.roots)
        assert (paths(report.changed), report.unknown) == (found, [])


def test_what_a_living_attempt_moves_is_not_judged(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publication is stopped after each of its steps, and the area verified meanwhile."""
    published(registry, "m0")
    seen: list[str] = []

    def look(step: str) -> None:
        with monkeypatch.context() as patch:
            for module, name in patched:
                patch.setattr(module, name, originals[name])
            report = verify(registry.conn, roots=registry.roots)
        assert summary(report) == summary(report.retracted) == {}, step
        seen.append(step)

    def stopping(name: str) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            done = originals[name](*args, **kwargs)
            if not registry.idle:
                return done
            look(name)
            return done

        return call

    patched = [(publishing, "prepare"), (publishing, "reveal"), (publications, "_commit"), (retraction, "_decide")]
    patched = [(module, name) for module, name in patched if hasattr(module, name)]
    originals: dict[str, Callable[..., object]] = {name: getattr(module, name) for module, name in patched}
    for module, name in patched:
        monkeypatch.setattr(module, name, stopping(name))
    registry.add()
    publish_data_instance(registry.conn, "m1", mode="copy", roots=registry.roots)
    retract(registry.conn, "m1", **WHY, roots=registry.roots)
    assert {"prepare", "_decide"} <= set(seen)


def test_the_scratch_of_the_living_and_of_the_dead(registry: Registry) -> None:
    registry.add()
    assert claim(registry.conn, get_data(registry.conn, "m1"), PublishRequest(roots=registry.roots)) is not None
    target = registry.roots.products / "mosaics" / "m1.fits"
    target.parent.mkdir(parents=True)
    publishing.scratch_path(target, 1).write_bytes(b"half")
    assert verify(registry.conn, roots=registry.roots).intact
    host, pid, _start = this_process().rsplit(":", 2)
    registry.sql("UPDATE data_registry SET owner = ?", f"{host}:{pid}:1")
    report = verify(registry.conn, roots=registry.roots)
    assert summary(report) == {"unknown": ["m1.fits.1.partial"]}
    registry.sql("UPDATE data_registry SET owner = ?, lease_expires_at = ?", this_process(), time.time() - 1.0)
    assert not verify(registry.conn, roots=registry.roots).intact, "it is late"


def test_a_product_that_moves_while_it_is_read(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was published when the list was made, and is a tombstone when its turn comes."""
    published(registry)
    original = fixity._judge_path

    def late(path: Path, *rest: object) -> None:
        monkeypatch.undo()
        retract(registry.conn, "m1", **WHY, roots=registry.roots)
        original(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(fixity, "_judge_path", late)
    report = verify(registry.conn, roots=registry.roots)
    assert summary(report) == summary(report.retracted) == {}
    assert paths(report.retracted.sound) == ["m1-noise.fits", "m1.fits"]
    assert report.sound == []


def test_an_interrupted_retraction_is_found_wherever_its_files_are(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(registry)

    class Killed(BaseException):
        pass

    original = disk_steps.rename_new

    def die(source: Path, target: Path) -> None:
        original(source, target)
        raise Killed

    monkeypatch.setattr(retraction, "rename_new", die)
    with pytest.raises(Killed):
        retract(registry.conn, "m1", **WHY, roots=registry.roots)
    assert verify(registry.conn, roots=registry.roots).retracted.sound == [], "not judged: its process is alive"
    registry.sql("UPDATE data_registry SET lease_expires_at = NULL")
    report = verify(registry.conn, roots=registry.roots)
    assert report.intact
    found = sorted(
        Path(finding.path).relative_to(registry.roots.products).parts[0] for finding in report.retracted.sound
    )
    assert found == ["mosaics", "retracted"]


def test_rows_that_cannot_be_held_against_anything(registry: Registry) -> None:
    """A checksum that was never recorded, metadata that were damaged by hand: findings, not crashes."""
    path = registry.add("byhand")
    path.parent.mkdir(exist_ok=True)
    target = registry.roots.products / "byhand.fits"
    target.parent.mkdir()
    path.rename(target)
    registry.sql("UPDATE data_registry SET status = 'published', published_path = ?", str(target))
    published(registry)
    registry.sql("UPDATE data_registry SET metadata_json = '{broken' WHERE data_id = 'm1'")
    published(registry, "m2")
    report = verify(registry.conn, roots=registry.roots)
    assert summary(report) == {"unverified": ["byhand.fits", "m1.fits"], "unknown": ["m1-noise.fits"]}
    sentences = " ".join(finding.sentence for finding in report.unverified)
    assert "no checksum of" in sentences
    assert "the metadata_json of product m1 is no JSON" in sentences
    assert paths(report.sound) == ["m2-noise.fits", "m2.fits"]


@ONLY_ROOT
def test_what_cannot_be_read_is_a_finding() -> None:
    with open_to_all() as registry:
        published(registry).chmod(0o000)
        published(registry, "m2")
        closed = registry.roots.products / "closed"
        source = registry.add("m3").rename(registry.roots.stage / "m3.fits")
        registry.sql("UPDATE data_registry SET stage_path = ? WHERE data_id = 'm3'", str(source))
        assert publish_data_instance(registry.conn, "m3", closed, roots=registry.roots)
        closed.chmod(0o000)

        def look(conn: object) -> None:
            report = verify(conn, roots=registry.roots)  # type: ignore[arg-type]
            assert summary(report) == {"unverified": ["closed", "m1.fits", "m3.fits"]}
            assert all("Permission denied" in finding.sentence for finding in report.unverified)
            assert paths(report.sound) == ["m1-noise.fits", "m2-noise.fits", "m2.fits"]

        assert by_nobody(registry, look) is None


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_an_area_that_is_gone(registry: Registry, kind: str) -> None:
    published(registry)
    registry.roots.products.rename(registry.root / "away")
    if kind == "file":
        registry.roots.products.write_bytes(b"")
    report = verify(registry.conn, roots=registry.roots)
    assert paths(report.missing) == ["m1-noise.fits", "m1.fits"]
    assert paths(report.unverified) == ["products"]


def test_fits_files_carry_both_checksums(tmp_path: Path) -> None:
    """For those who have the file and no registry; a change of one pixel or of one card is found by them, too."""
    image = SkyImage(
        data=np.arange(12.0, dtype=np.float32).reshape(3, 4),
        center=SkyPosition(10.0, 20.0),
        cell_deg=1.0 / 3600.0,
    )
    path = fits_image.save(image, tmp_path / "m1.fits")
    with fits.open(path, checksum=True) as hdus:
        for hdu in hdus:
            assert {"CHECKSUM", "DATASUM"} <= set(hdu.header)
            assert hdu.verify_checksum() == hdu.verify_datasum() == 1
        first_pixel = hdus.fileinfo(0)["datLoc"]
    content = bytearray(path.read_bytes())
    content[first_pixel] ^= 1
    path.write_bytes(content)
    with fits.open(path) as hdus:
        assert hdus[0].verify_datasum() == 0
    content[first_pixel] ^= 1
    card = content.index(b"BUNIT")
    content[card + 11] ^= 1
    path.write_bytes(content)
    with fits.open(path) as hdus:
        assert (hdus[0].verify_datasum(), hdus[0].verify_checksum()) == (1, 0)


def test_everything_that_writes_fits_writes_checksums() -> None:
    """Few places write FITS; each must write both cards."""
    package = Path(fits_image.__file__).parents[1]
    writers = {
        path.relative_to(package).as_posix(): path.read_text(encoding="utf-8")
        for path in package.rglob("*.py")
        if any(call in path.read_text(encoding="utf-8") for call in (".writeto(", "fits.append(", "fits.writeto("))
    }
    files = ("fits_image", "hips_tiles", "moc", "tile_compression")
    assert set(writers) == {f"formats/{name}.py" for name in files}
    assert all("add_checksum(" in text for text in writers.values())


def test_what_is_staged_is_not_verified(registry: Registry) -> None:
    register_data_instance(registry.conn, "mosaic", "m1", registry.roots.stage / "mosaics" / "m1.fits")
    registry.roots.products.mkdir()
    assert verify(registry.conn, roots=registry.roots) == FixityReport()
