"""What each request of wadm's API does: one method each, named for its operation.

They read what is known of the apps, and write by compare-and-set; words and odd corners are wadm's,
as its clients read both. The leader acts on what was written.
"""

import json
import secrets
import time
from typing import Any

from lattice import errors, manifest, names
from lattice.manifest import Manifest, writing
from lattice.reconcile.apps import resolve
from lattice.reconcile.model import App, AppRecord, ManifestVersion
from lattice.reconcile.store import Apps
from lattice.wire import apps as wire
from lattice.wire.apps import Status, StatusInfo, StatusType

WRITTEN_IN = (wire.JSON_TYPE, wire.YAML_TYPE)

_ULID_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class AppApi:
    """The API of one lattice. Every method may raise ``Unavailable`` when NATS is away."""

    def __init__(self, apps: Apps, *, name: str, room_bytes: int) -> None:
        """``name``: of the reconciler that answers; ``room_bytes``: how large an answer may be."""
        self._apps = apps
        self._name = name
        self._room_bytes = room_bytes

    async def put(self, body: bytes, headers: dict[str, str]) -> wire.PutAnswer:
        parsed = _parse_manifest(body, headers.get(wire.CONTENT_TYPE))
        name = _checked(parsed)
        version = parsed.version or _ulid()
        previous = ""
        created = False

        def change(record: AppRecord | None) -> AppRecord:
            nonlocal previous, created
            record = _fresh(name, record)
            if record.manifest(version) is not None:
                raise errors.AlreadyExists(f"Manifest version {version} already exists")
            previous = record.versions[-1].version if record.versions else ""
            created = not record.versions
            kept = ManifestVersion(version=version, manifest=body.decode())
            return record.model_copy(update={"versions": [*record.versions, kept]})

        # wadm's message names the version before, which is empty for the first.
        record = await self._apps.change(name, change)
        message = f"Successfully put manifest {name} {previous}"
        if missing := manifest.missing_shared(manifest.desired(parsed, version), self._deployed()):
            message += f", but some shared components are not deployed: {json.dumps(missing)}"
        return wire.PutAnswer(
            result=wire.PutResult.CREATED if created else wire.PutResult.NEW_VERSION,
            total_versions=len(record.versions),
            current_version=version,
            message=message,
            name=name,
        )

    def get(self, app: str, request: wire.GetRequest) -> wire.GetAnswer:
        record = self._known(app)
        version = request.version or (record.versions[-1].version if record else "")
        text = record.manifest(version) if record else None
        if record is None or text is None:
            missing = (
                f"Application with the name {app} not found"
                if record is None
                else f"Application {app} with version {version} doesn't exist"
            )
            return wire.GetAnswer(result=wire.GetResult.NOT_FOUND, message=missing)
        message = f"Successfully fetched application {app}"
        return wire.GetAnswer(
            result=wire.GetResult.SUCCESS,
            message=f"{message} {version}" if request.version else message,
            manifest=_as_json(manifest.parse(text.encode()), version),
        )

    def listing(self, summaries: list[wire.Summary]) -> wire.ListAnswer:
        return wire.ListAnswer(
            result=wire.GetResult.SUCCESS,
            message="Successfully fetched list of applications",
            models=summaries,
            served_by=self._name,
        )

    def summaries(self) -> list[wire.Summary]:
        summaries = [self._summary(record) for record in self._apps if _exists(record)]
        if sum(len(summary.model_dump_json()) for summary in summaries) < self._room_bytes:
            return summaries
        # Clients show the parts of one app at a time.
        return [
            summary.model_copy(
                update={
                    "detailed_status": summary.detailed_status.model_copy(update={"scalers": []})
                }
            )
            for summary in summaries
        ]

    def _summary(self, record: AppRecord) -> wire.Summary:
        latest = record.versions[-1]
        try:
            description = manifest.parse(latest.manifest.encode()).description
        except errors.LatticeError:
            description = None
        return wire.Summary.of(
            record.name,
            latest.version,
            self._status_of(record),
            description=description,
            deployed_version=record.deployed,
        )

    def versions(self, app: str) -> wire.VersionsAnswer:
        record = self._known(app)
        if record is None:
            return wire.VersionsAnswer(
                result=wire.GetResult.NOT_FOUND,
                message=f"Application with the name {app} not found",
            )
        return wire.VersionsAnswer(
            result=wire.GetResult.SUCCESS,
            message=f"Successfully fetched versions for application {app}",
            versions=[
                wire.VersionInfo(version=kept.version, deployed=kept.version == record.deployed)
                for kept in record.versions
            ],
        )

    async def deploy(self, app: str, version: str | None) -> wire.DeployAnswer:
        record = self._known(app)
        if record is None:
            return wire.DeployAnswer(
                result=wire.DeployResult.NOT_FOUND,
                message=f"Application with the name {app} not found",
                name=app,
                version=version,
            )
        wanted = record.versions[-1].version if version in (None, wire.LATEST) else version
        if wanted is None or (text := record.manifest(wanted)) is None:
            return wire.DeployAnswer(
                result=wire.DeployResult.ERROR,
                message=f"Application with the name '{app}' does not have a version '{version}'"
                " to deploy",
                name=app,
                version=version,
                code=errors.NotFound.code,
            )
        self._check_deployable(app, manifest.parse(text.encode()), wanted)

        def change(record: AppRecord | None) -> AppRecord:
            if record is None or record.manifest(wanted) is None:
                raise errors.Conflict(f"Version {wanted} of {app} was deleted in the meantime")
            previous = record.previous if record.deployed in (None, wanted) else record.deployed
            return record.model_copy(
                update={
                    "deployed": wanted,
                    "previous": previous,
                    "generation": record.generation + 1,
                }
            )

        await self._apps.change(app, change)
        return wire.DeployAnswer(
            result=wire.DeployResult.ACKNOWLEDGED,
            message=f"Successfully deployed application {app} {wanted}",
            name=app,
            version=wanted,
        )

    def _check_deployable(self, app: str, parsed: Manifest, version: str) -> None:
        """Make sure that a version gets along with what else is deployed.

        Raises:
            Conflict: one of its ids is taken.
            NotFound: a component that it shares is not deployed.
        """
        desired = manifest.desired(parsed, version)
        deployed = [other for other in self._deployed() if other.name != app]
        taken = {scaler.entity: other.name for other in deployed for scaler in other.scalers}
        for scaler in desired.scalers:
            if (other := taken.get(scaler.entity)) is not None:
                raise errors.Conflict(
                    f"Component identifier '{scaler.entity}' is already deployed in a different"
                    f" application '{other}'."
                )
        if missing := manifest.missing_shared(desired, deployed):
            raise errors.NotFound(
                "Application contains shared components that are not deployed in other"
                f" applications: {json.dumps(missing)}"
            )

    async def undeploy(self, app: str) -> wire.DeployAnswer:
        if (record := self._known(app)) is None:
            return wire.DeployAnswer(
                result=wire.DeployResult.NOT_FOUND,
                message=f"Application with the name {app} not found",
                name=app,
            )
        message = f"Application {app} was already undeployed"
        if record.deployed is not None:
            await self._apps.change(app, _undeployed)
            message = f"Successfully undeployed application {app}"
        return wire.DeployAnswer(result=wire.DeployResult.ACKNOWLEDGED, message=message, name=app)

    async def delete(self, app: str, version: str | None) -> wire.DeleteAnswer:
        record = self._known(app)
        if record is None:
            return wire.DeleteAnswer(
                result=wire.DeleteResult.NOOP,
                message=f"Application {app} doesn't exist or was already deleted",
            )
        if version is not None and record.manifest(version) is None:
            return wire.DeleteAnswer(
                result=wire.DeleteResult.NOOP,
                message=f"Application version {version} doesn't exist",
            )
        undeploy = True

        def change(record: AppRecord | None) -> AppRecord:
            nonlocal undeploy
            if record is None:
                raise errors.Conflict(f"Application {app} was deleted in the meantime")
            left = [kept for kept in record.versions if version not in (None, kept.version)]
            undeploy = not left or record.deployed == version
            if undeploy:
                record = _undeployed(record)
            return record.model_copy(update={"versions": left, "deleting": not left})

        changed = await self._apps.change(app, change)
        what = f"application {app}"
        if version is not None:
            what = f"version {version} of {what}" if changed.versions else f"last version of {what}"
        return wire.DeleteAnswer(
            result=wire.DeleteResult.DELETED,
            message=f"Successfully deleted {what}",
            undeploy=undeploy,
        )

    def status(self, app: str) -> wire.StatusAnswer:
        record = self._known(app)
        # wadm has a status even for what it has never heard of.
        status = self._status_of(record) if record else Status(status=StatusInfo())
        return wire.StatusAnswer(
            result=wire.StatusResult.OK,
            message=f"Successfully fetched status for application {app}",
            status=status,
        )

    def _status_of(self, record: AppRecord) -> Status:
        stored = self._apps.status(record.name)
        if stored is not None and stored.generation == record.generation:
            return stored.status
        if record.generation == 0:
            return Status(status=StatusInfo())
        # What is stored is about the deployment before this one.
        doing = "Deploying" if record.deployed is not None else "Undeploying"
        info = StatusInfo(type=StatusType.RECONCILING, message=f"{doing} has not begun yet")
        return Status(status=info, version=record.deployed or "")

    def planned(self, request: wire.PlanRequest) -> App:
        """The app as it would be, were it deployed as the request says."""
        if request.manifest is not None:
            text = request.manifest
            parsed = _parse_manifest(text.encode(), None)
            name, version = _checked(parsed), parsed.version or _ulid()
        elif request.name is not None:
            name = request.name
            if (record := self._known(name)) is None:
                raise errors.NotFound(f"Application with the name {name} not found")
            version = record.versions[-1].version
            if request.version not in (None, wire.LATEST):
                version = request.version or version
            found = record.manifest(version)
            if found is None:
                raise errors.NotFound(
                    f"Application with the name '{name}' does not have a version '{version}'"
                )
            text, parsed = found, manifest.parse(found.encode())
        else:
            raise errors.InvalidRequest("a plan is of a manifest, or of an app by name")
        self._check_deployable(name, parsed, version)
        stored = self._apps.get(name)
        base = _fresh(name, stored)
        others = [kept for kept in base.versions if kept.version != version]
        deployed = base.deployed not in (None, version)
        record = base.model_copy(
            update={
                "versions": [*others, ManifestVersion(version=version, manifest=text)],
                "deployed": version,
                "previous": base.deployed if deployed else base.previous,
                "generation": base.generation + 1,
            }
        )
        return resolve(record)

    def _known(self, app: str) -> AppRecord | None:
        record = self._apps.get(app)
        return record if record is not None and _exists(record) else None

    def _deployed(self) -> list[manifest.DesiredApp]:
        """What the apps that are deployed want."""
        resolved = (resolve(record) for record in self._apps if record.deployed is not None)
        return [app.desired for app in resolved if app.desired is not None]


def _exists(record: AppRecord) -> bool:
    """Whether an app is there for clients: one that is being deleted is not."""
    return bool(record.versions) and not record.deleting


def _fresh(name: str, record: AppRecord | None) -> AppRecord:
    """The record to put a version into; a new one in the place of one that is being deleted."""
    if record is None:
        return AppRecord(name=name)
    return record if _exists(record) else AppRecord(name=name, generation=record.generation)


def _undeployed(record: AppRecord | None) -> AppRecord:
    if record is None:
        raise errors.Conflict("the application was deleted in the meantime")
    return record.model_copy(
        update={"deployed": None, "previous": None, "generation": record.generation + 1}
    )


def _parse_manifest(body: bytes, written_in: str | None) -> Manifest:
    if written_in is not None and written_in not in WRITTEN_IN:
        raise errors.InvalidRequest(
            f"Unable to parse manifest: Unsupported content type {written_in[:100]} given."
            " Wadm supports YAML and JSON"
        )
    try:
        return manifest.parse(body)
    except errors.InvalidRequest as error:
        raise errors.InvalidRequest(f"Unable to parse manifest: {error.text}") from None


def _checked(parsed: Manifest) -> str:
    """The name of a manifest's app, if it may be stored.

    Raises:
        InvalidRequest: in wadm's words where it has some.
    """
    if parsed.version == wire.LATEST:
        raise errors.InvalidRequest(
            f'invalid manifest version, errors: "{wire.LATEST} is not allowed in wadm"'
        )
    name = parsed.name.strip()
    try:
        names.parse_app(name)
    except errors.InvalidRequest:
        raise errors.InvalidRequest(
            f"Manifest name {name[: names.NAME_CHARS_MAX]} contains invalid characters."
            " Manifest names can only contain alphanumeric characters, dashes, and underscores."
        ) from None
    for finding in manifest.validate(parsed):
        if finding.level == "error":
            raise errors.InvalidRequest(finding.message)
    return name


def _as_json(parsed: Manifest, version: str) -> dict[str, Any]:
    """A manifest as wadm gives it back: with the version that it was given."""
    fields = writing.to_json(parsed)
    fields["metadata"]["annotations"]["version"] = version
    return fields


def _ulid() -> str:
    """A version for a manifest that names none; they sort by time, as wadm's do."""
    number = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    return "".join(_ULID_DIGITS[(number >> shift) & 31] for shift in range(125, -1, -5))
