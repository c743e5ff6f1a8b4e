"""From what is stored of an app to what is decided for."""

from lattice.reconcile.apps import resolve
from lattice.reconcile.model import AppRecord, ManifestVersion
from tests.unit.lattice.reconcile.manifests import actor, app


def record(**fields: object) -> AppRecord:
    versions = [
        ManifestVersion(version="v1", manifest=app(actor(image="file:///one"))),
        ManifestVersion(version="v2", manifest=app(actor(image="file:///two"))),
        ManifestVersion(version="v3", manifest="{"),
    ]
    return AppRecord(name="shop", versions=versions, generation=4).model_copy(update=fields)


def test_an_app_that_is_not_deployed_wants_nothing() -> None:
    resolved = resolve(record())

    assert (resolved.desired, resolved.error, resolved.generation) == (None, None, 4)


def test_an_app_that_is_being_deleted_wants_nothing() -> None:
    resolved = resolve(record(deployed="v2", deleting=True))

    assert resolved.desired is None
    assert resolved.deleting


def test_a_deployed_app_knows_what_it_may_go_back_to() -> None:
    resolved = resolve(record(deployed="v2", previous="v1"))

    assert resolved.desired is not None
    assert resolved.desired.scalers[0].reference == "file:///two"
    assert resolved.previous == "v1"
    assert resolved.fallbacks["v1"].scalers[0].reference == "file:///one"
    assert resolved.fallbacks.get("v3") is None
    assert resolved.fallbacks.get("v9") is None


def test_a_manifest_that_cannot_be_read_is_an_error_to_show() -> None:
    resolved = resolve(record(deployed="v3"))

    assert resolved.desired is None
    assert resolved.error is not None
    assert "version v3 can't be deployed: the manifest is not YAML" in resolved.error


def test_a_version_that_is_not_stored_is_an_error_to_show() -> None:
    assert resolve(record(deployed="v9")).error == "version v9 is deployed, but not stored"
