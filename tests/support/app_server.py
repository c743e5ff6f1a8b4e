"""A small stand-in for whoever serves wadm's API: it answers what it is told to, or as wadm would.

With ``answers`` a test says what comes back; otherwise it keeps manifests in memory and takes every
deployment for done, which is all that clients need.
"""

import json
from typing import Any

from lattice import manifest, subjects
from lattice.bus import Bus, Message
from lattice.wire import apps
from lattice.wire.apps import Status, StatusInfo, StatusType


class AppServer:
    """Serves the apps of one lattice; has to be opened."""

    def __init__(self, bus: Bus, lattice: str) -> None:
        self._bus = bus
        self._lattice = lattice
        self.asked: list[tuple[str, str | None, bytes]] = []
        """Operation, app and body of each request."""
        self.answers: dict[str, bytes] = {}
        """What is answered to an operation, whatever it says."""
        self.plan: bytes | None = None
        """What is answered to plans; with None nobody serves them."""
        self.versions: dict[str, dict[str, str]] = {}
        """Manifests by app and version."""
        self.deployed: dict[str, str] = {}
        self.stories: dict[str, list[Status]] = {}
        """Statuses that are told one after the other once an app is deployed; the last one stays.
        Without one it is deployed at once."""
        self.statuses: dict[str, Status] = {}

    async def open(self) -> None:
        await self._bus.subscribe(subjects.app_apis(self._lattice), self._receive)
        await self._bus.flush()

    async def open_plans(self, answer: bytes) -> None:
        self.plan = answer
        await self._bus.subscribe(subjects.app_plan(self._lattice), self._receive_plan)
        await self._bus.flush()

    async def tell(self, app: str, status: Status) -> None:
        self.statuses[app] = status
        await self._bus.publish(subjects.app_status(self._lattice, app), status.encode())

    async def _receive(self, message: Message) -> None:
        request = subjects.parse_app_api(self._lattice, message.subject)
        self.asked.append((request.operation, request.app, message.data))
        answer = self.answers.get(request.operation)
        if answer is None:
            body = json.loads(message.data) if message.data and request.app else {}
            answer = self._answer(request.operation, request.app or "", body, message.data)
        await self._bus.publish(message.reply, answer)
        if request.operation == "deploy" and b"acknowledged" in answer:
            for status in self.stories.get(request.app or "", [deployed()]):
                await self.tell(request.app or "", status)
        if request.operation == "undeploy" and b"acknowledged" in answer:
            await self.tell(request.app or "", undeployed())

    async def _receive_plan(self, message: Message) -> None:
        self.asked.append(("plan", None, message.data))
        await self._bus.publish(message.reply, self.plan or b"")

    def _answer(self, operation: str, app: str, body: dict[str, Any], data: bytes) -> bytes:
        version = body.get("version")
        match operation:
            case "put":
                return self._put(data).encode()
            case "get" if not app:
                models = [
                    apps.Summary.of(
                        name,
                        list(versions)[-1],
                        self.statuses.get(name, undeployed()),
                        deployed_version=self.deployed.get(name),
                    )
                    for name, versions in self.versions.items()
                ]
                return apps.ListAnswer(result=apps.GetResult.SUCCESS, models=models).encode()
            case "del":
                known = self.versions.pop(app, None)
                result = apps.DeleteResult.NOOP if known is None else apps.DeleteResult.DELETED
                return apps.DeleteAnswer(result=result).encode()
            case "status":
                status = self.statuses.get(app, undeployed())
                return apps.StatusAnswer(result=apps.StatusResult.OK, status=status).encode()
        if app not in self.versions:
            text = f"Application with the name {app} not found"
            return json.dumps({"result": "notfound", "message": text, "versions": []}).encode()
        versions = self.versions[app]
        match operation:
            case "get":
                text = versions[version or list(versions)[-1]]
                document = json.loads(manifest.parse(text.encode()).model_dump_json(by_alias=True))
                return apps.GetAnswer(result=apps.GetResult.SUCCESS, manifest=document).encode()
            case "versions":
                infos = [
                    apps.VersionInfo(version=one, deployed=one == self.deployed.get(app))
                    for one in versions
                ]
                return apps.VersionsAnswer(result=apps.GetResult.SUCCESS, versions=infos).encode()
            case "deploy":
                self.deployed[app] = version or list(versions)[-1]
                return apps.DeployAnswer(
                    result=apps.DeployResult.ACKNOWLEDGED, name=app, version=self.deployed[app]
                ).encode()
            case "undeploy":
                self.deployed.pop(app, None)
                return apps.DeployAnswer(result=apps.DeployResult.ACKNOWLEDGED, name=app).encode()
            case _:
                raise AssertionError(operation)

    def _put(self, data: bytes) -> apps.PutAnswer:
        parsed = manifest.parse(data)
        versions = self.versions.setdefault(parsed.name, {})
        version = parsed.version or "generated"
        if version in versions:
            text = f"Manifest version {version} already exists"
            return apps.PutAnswer(result=apps.PutResult.ERROR, message=text)
        versions[version] = data.decode()
        return apps.PutAnswer(
            result=apps.PutResult.CREATED,
            total_versions=len(versions),
            current_version=version,
            name=parsed.name,
        )


def deployed() -> Status:
    return Status(status=StatusInfo(type=StatusType.DEPLOYED))


def undeployed() -> Status:
    return Status(status=StatusInfo(type=StatusType.UNDEPLOYED))


def failed(message: str) -> Status:
    return Status(status=StatusInfo(type=StatusType.FAILED, message=message))
